"""Where the server is, who may sign in, and what is told of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.exceptions import ConnectionError, ResponseError

from gateway_core.redis_store.lease import RedisLeases
from gateway_core.redis_store.server import RedisServer, is_for_the_operator
from gateway_core.redis_url import redis_url_problem
from gateway_core.storage.errors import CannotOpen
from gateway_core.storage.lease import LeaseRequest
from gateway_core.storage.lease_store import Lease
from tests.support.certificate import server_context
from tests.support.leases import QUICK
from tests.support.redis import RunningRedis, redis_server, running

__all__ = ["redis_server"]

REQUEST = LeaseRequest("a", 0, 10, 4, "p", 1)


async def opened(url: str) -> RedisLeases:
    leases = RedisLeases(SecretStr(url), "p", QUICK)
    await leases.open(lambda _away, _now_us: ())
    return leases


@pytest.mark.parametrize(
    "url",
    [
        "redis://host",
        "redis://host:6380/2",
        "redis://:p%40ss@host",
        "rediss://user:p%2Fss@[::1]:6379/0",
        "rediss://host?ssl_ca_certs=/ca.pem&ssl_certfile=/c.pem&ssl_keyfile=/k.pem",
    ],
)
def test_a_redis_url_is_taken(url: str) -> None:
    assert redis_url_problem(url) is None
    assert RedisServer.at(SecretStr(url)).host in ("host", "::1")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "must begin with"),
        ("host:6379", "must begin with"),
        ("http://host", "must begin with"),
        ("postgresql://user:hush@host/db", "must begin with"),
        ("unix:///hush.sock", "must begin with"),
        ("redis://", "must be"),
        ("redis:///0", "must be"),
        ("redis://:hush@/0", "must be"),
        ("redis://host:0", "must be"),
        ("redis://host:99999", "is no URL"),
        ("redis://host:hush", "is no URL"),
        ("redis://:hu@sh@host", "percent-encode"),
        ("redis://:hu#sh@host", "is no URL|percent-encode"),
        ("redis://:hu/sh@host", "is no URL|percent-encode"),
        ("redis://host/hush", "number of a database"),
        ("redis://host/-1", "number of a database"),
        ("redis://host?ssl_ca_certs=x", "only"),
        ("rediss://host?ssl_cert_reqs=none", "nothing in its query but"),
        ("rediss://host?socket_timeout=0", "nothing in its query but"),
        ("rediss://host?ssl_ca_certs=", "nothing in its query but"),
        ("rediss://host?hush", "cannot be read"),
        ("rediss://host?ssl_keyfile=k.pem", "without ssl_certfile"),
    ],
)
def test_what_is_no_redis_url_is_told_without_its_value(url: str, problem: str) -> None:
    with pytest.raises(CannotOpen, match=f"^redis_url .*({problem})") as refused:
        RedisServer.at(SecretStr(url))
    assert "hush" not in str(refused.value)


def test_nothing_that_is_printed_has_the_password() -> None:
    leases = RedisLeases(SecretStr("rediss://user:hush@host"), "p")
    assert "hush" not in f"{leases!r} {leases.server!r} {leases.server} {leases._redis!r}"
    assert str(leases.server) == "rediss://host:6379/0"


async def test_a_wrong_password_is_told_with_the_key_and_without_the_password(redis_server: RunningRedis) -> None:
    place = f"redis://127.0.0.1:{redis_server.port}/0"
    for url in (redis_server.url_of("hush"), f"redis://somebody:hush@127.0.0.1:{redis_server.port}", place):
        with pytest.raises(CannotOpen, match=rf"^redis_url: {place} (does not accept|refuses: |does not)") as refused:
            await opened(url)
        assert "hush" not in str(refused.value)


async def test_a_process_ends_at_any_moment(redis_server: RunningRedis) -> None:
    for moment in range(60):
        leases = RedisLeases(SecretStr(redis_server.url), "p", QUICK._replace(appear=0.0, settle=0.0))
        await leases.open(lambda _away, _now_us: ())
        for _ in range(moment):
            await asyncio.sleep(0)
        async with asyncio.timeout(20):
            await leases.close()


async def test_a_database_that_the_server_does_not_have_is_told(redis_server: RunningRedis) -> None:
    with pytest.raises(CannotOpen, match=r"^redis_url: redis://\S+/99 refuses: .*DB index"):
        await opened(redis_server.url_of(redis_server.password, 99))


async def test_each_database_of_a_server_is_by_itself(redis_server: RunningRedis) -> None:
    for number in (0, 1):
        leases = await opened(redis_server.url_of(redis_server.password, number))
        assert await leases.take(REQUEST) == Lease(4, 4)
        await leases.close()


async def test_what_is_kept_is_named_and_expires(redis_server: RunningRedis) -> None:
    leases = await opened(redis_server.url)
    await leases.take(REQUEST)
    with redis_server.client() as client:
        keys = client.keys("*")
        assert len(keys) == 3
        assert all(str(key).startswith("headgate:{limits}:") and 0 < client.ttl(key) <= 3600 for key in keys)
    await leases.close()


async def test_a_user_that_may_do_nothing_else_is_enough(redis_server: RunningRedis) -> None:
    redis_server.set_user(
        "few", "on", ">enough", "~headgate:*", "+evalsha", "+eval", "+script|load", "+script|exists", "+time", "+get",
        "+set", "+exists", "+pexpire", "+hget", "+hset", "+zadd", "+zrem", "+zscore", "+zcount", "+zremrangebyscore",
    )  # fmt: skip
    leases = await opened(f"redis://few:enough@127.0.0.1:{redis_server.port}")
    assert await leases.take(REQUEST) == Lease(4, 4)
    await leases.close()
    redis_server.set_user("few", "-evalsha")
    with pytest.raises(CannotOpen, match=r"redis_url: .* does not allow what is needed"):
        await opened(f"redis://few:enough@127.0.0.1:{redis_server.port}")


async def test_all_that_is_kept_is_of_one_slot_of_a_cluster() -> None:
    with running(None, "--cluster-enabled", "yes") as server:
        with server.client() as client:
            client.cluster("ADDSLOTS", *range(16384))
            async with asyncio.timeout(20):
                while client.cluster("INFO")["cluster_state"] != "ok":  # noqa: ASYNC110  # it tells nobody
                    await asyncio.sleep(0.02)
        leases = await opened(server.url)
        assert await leases.take(REQUEST) == Lease(4, 4)
        await leases.close()


def test_a_server_that_sends_elsewhere_is_for_the_operator_and_one_that_is_gone_is_not() -> None:
    assert is_for_the_operator(ResponseError("MOVED 3999 192.0.2.1:6379"))
    assert not is_for_the_operator(ResponseError("LOADING Redis is loading the dataset in memory"))
    assert not is_for_the_operator(ConnectionError("Error 111 connecting to 192.0.2.1:6379"))


@asynccontextmanager
async def encrypted(port: int, directory: Path) -> AsyncIterator[int]:
    """A port on which TLS ends before a server that has none."""

    async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(passed_on(reader, inner_writer), passed_on(inner_reader, writer), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context(directory))
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_rediss_is_encrypted_and_checked(redis_server: RunningRedis, tmp_path: Path) -> None:
    async with encrypted(redis_server.port, tmp_path) as port:
        at = f"rediss://:{redis_server.password}@127.0.0.1:{port}/0"
        leases = await opened(f"{at}?ssl_ca_certs={tmp_path}/certificate.pem")
        assert await leases.take(REQUEST) == Lease(4, 4)
        await leases.close()
        with pytest.raises(CannotOpen, match=r"^redis_url: rediss://\S+/0 cannot be reached: .*CERTIFICATE_VERIFY"):
            await opened(at)
        with pytest.raises(CannotOpen, match=r"^redis_url: rediss://\S+/0 cannot be reached: .*No such file"):
            await opened(f"{at}?ssl_ca_certs={tmp_path}/none.pem")
