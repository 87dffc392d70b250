"""What a user of the server must be allowed, and that all keys are of one slot of a cluster each time."""

import asyncio
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from gateway_core.redis_store.circuits import CircuitStore, Statement
from gateway_core.redis_store.link import Away
from gateway_core.redis_store.stream_copies import Addition, Ask, CopyStore
from tests.support.redis import RunningRedis, redis_server, running

__all__ = ["redis_server"]

LIMITS = (
    "+evalsha", "+eval", "+script|load", "+script|exists", "+time", "+get", "+set", "+exists", "+pexpire", "+hget",
    "+hset", "+zadd", "+zrem", "+zscore", "+zcount", "+zremrangebyscore",
)  # fmt: skip
MORE = ("+hgetall", "+hdel", "+zcard", "+del", "+mget", "+xadd", "+xread", "+xtrim")
"""As docs/limits.md says."""


@pytest.fixture(params=["few", "cluster"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "few":
        server: RunningRedis = request.getfixturevalue("redis_server")
        server.set_user("few", "on", ">enough", "~headgate:*", *LIMITS, *MORE)
        yield f"redis://few:enough@127.0.0.1:{server.port}"
        return
    with running(None, "--cluster-enabled", "yes") as server:
        with server.client() as client:
            client.cluster("ADDSLOTS", *range(16384))
        yield server.url


async def deployment() -> str:
    return "d"


async def answering(url: str) -> None:
    """A cluster needs a while."""
    store = CircuitStore(SecretStr(url), "p", deployment)
    async with asyncio.timeout(20):
        while True:
            try:
                await store.share([])
            except Away:
                await asyncio.sleep(0.05)
            else:
                break
    await store.close()


async def test_circuits_are_shared(url: str) -> None:
    await answering(url)
    store = CircuitStore(SecretStr(url), "p", deployment)
    heard = await store.share([Statement("open", "lab/tiny", 10, "failed"), Statement("rest", "lab/tiny", 5)])
    assert sorted(vote.what for vote in heard.votes) == ["open", "rest"]
    heard = await store.share([Statement("well", "lab/tiny")])
    assert [vote.what for vote in heard.votes] == ["rest"]
    assert heard.well["lab/tiny"] >= heard.votes[0].since_ms
    await store.leave()
    await store.close()


async def test_streams_are_copied(url: str) -> None:
    await answering(url)
    store = CopyStore(SecretStr(url))
    assert not await store.beat("me")
    assert await store.beat("me")
    assert await store.alive(["me", "you"]) == {"me": True, "you": False}
    first = Addition("k", "", "2", 60, "", {"head": b"h"}, [("1-1", b"a"), ("3-2", b"b")])
    assert await store.add([first]) == [True]
    assert await store.add([Addition("k", "1", "3", 60, "", {}, [("4-3", b"c")])]) == [False]
    assert await store.add([Addition("k", "2", "3", 60, "3-2", {}, [("4-3", b"c")])]) == [True]
    assert (await store.head("k"))[b"head"] == b"h"
    await store.ask([Ask("me", "k", b"sealed")])
    read, place = await store.read("me", "0-0", {"k": "0-0", "other": "0-0"})
    assert read.entries == {"k": [("3-2", b"b"), ("4-3", b"c")]}
    assert list(read.asks) == [("k", b"sealed")]
    read, again = await store.read("me", place, {"k": "4-3"})
    assert (read.entries, list(read.asks), again) == ({}, [], place)
    await store.forget(["k"])
    assert await store.head("k") == {}
    await store.end("me")
    await store.close()
