"""Copies of streams on a server that has little memory: its limit holds, and a copy that begins anew is a whole one."""

from collections.abc import Iterator
from contextlib import suppress

import pytest
from pydantic import SecretStr

from gateway_core.redis_store.link import Away
from gateway_core.redis_store.stream_copies import Addition, CopyStore
from tests.support.redis import Kind, RunningRedis, running

MEBIBYTE = 1 << 20
ROOM = 8 * MEBIBYTE


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Iterator[RunningRedis]:
    kind: Kind = request.param
    with running(kind) as found:
        yield found


def begun(key: str, size: int) -> Addition:
    return Addition(key, "", "2", 60, "", {"owner": b"o", "head": b"h", "begun": b"b"}, [("1-2", b"x" * size)])


async def test_copies_take_no_more_memory_than_the_server_may(server: RunningRedis) -> None:
    store = CopyStore(SecretStr(server.url))
    with server.client() as client:
        before = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory", before + ROOM)
        count = 0
        with suppress(Away):
            while count < 4 * ROOM // MEBIBYTE:
                assert await store.add([begun(f"k{count}", MEBIBYTE)]) == [True]
                count += 1
        assert 1 <= count <= ROOM // MEBIBYTE + 1
        # What is given up makes room.
        await store.forget([f"k{number}" for number in range(count)])
        assert await store.add([begun("k", MEBIBYTE)]) == [True]
    await store.close()


async def test_a_copy_that_begins_anew_has_nothing_of_the_one_before(server: RunningRedis) -> None:
    store = CopyStore(SecretStr(server.url))
    assert await store.add([begun("k", 10)]) == [True]
    assert await store.add([Addition("k", "2", "3", 60, "", {}, [("5-3", b"later")])]) == [True]
    anew = Addition("k", "", "7", 60, "", {"owner": b"p", "head": b"i", "begun": b"c"}, [("1-7", b"y")])
    assert await store.add([anew]) == [True]
    assert await store.head("k") == {b"count": b"7", b"owner": b"p", b"head": b"i", b"begun": b"c"}
    read, _ = await store.read("p", "0-0", {"k": "0-0"})
    assert read.entries == {"k": [("1-7", b"y")]}
    await store.close()
