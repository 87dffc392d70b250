"""What replicas have to say to each other of streams, and Redis loses, refuses or cannot take: callers lose nothing."""

import asyncio
from collections.abc import Sequence
from typing import Any

from grpc import StatusCode, aio

from gateway_core.redis_store.link import Away
from gateway_core.redis_store.stream_copies import Ask, CopyStore
from gateway_core.resume.copies import Copies
from tests.faults.test_resume import WHOLE, id_of, rest, some, text_of
from tests.faults.test_streams_of_replicas import Replica, World, gated, redis, refused, world
from tests.support.upstream import reached

__all__ = ["redis", "world"]

WITHIN_SECONDS = 6
"""Less than a caller waits for a process that does not answer."""


def copies_of(replica: Replica) -> Copies:
    copies = replica.gateway.core._replicas._copies
    assert copies is not None
    return copies


class Words:
    """What a replica says, of which the first that is of a stream is not said; all are kept."""

    def __init__(self, store: CopyStore, error: Exception | None) -> None:
        self.said: list[Ask] = []
        self._ask = store.ask
        self._error = error
        self._is_lost = False
        setattr(store, "ask", self)  # noqa: B010

    async def __call__(self, asks: Sequence[Ask]) -> None:
        if not self._is_lost and any(ask.key for ask in asks):
            self._is_lost = True
            if self._error is not None:
                raise self._error
            return
        self.said += asks
        await self._ask(asks)


async def continued(world: World, other: Replica, error: Exception | None) -> Words:
    """A stream of one replica, continued at another whose first word of it is lost."""
    one = await world.replica()
    gate = gated(world.upstream, 5)
    call = one.begun()
    identity = await id_of(call)
    before = await some(call, 4)
    call.cancel()
    await reached(lambda: one.stream.listener is None)
    words = Words(copies_of(other).store, error)
    async with asyncio.timeout(WITHIN_SECONDS):
        again = other.resumed(identity, 4)
        await some(again, 1)
        gate.set()
        assert text_of(before + await rest(again)) == WHOLE
    return words


async def test_a_word_that_redis_does_not_take_is_said_again(world: World) -> None:
    await continued(world, await world.replica(), Away())


async def test_a_word_that_redis_has_taken_and_lost_is_said_again(world: World) -> None:
    await continued(world, await world.replica(), None)


async def test_what_nobody_foresaw_ends_no_copying(world: World) -> None:
    other = await world.replica()
    store = copies_of(other).store
    read, failed = store.read, 0

    async def failing(*arguments: Any) -> Any:
        nonlocal failed
        failed += 1
        if failed == 1:
            raise RuntimeError("read() called while another coroutine is already waiting")
        return await read(*arguments)

    setattr(store, "read", failing)  # noqa: B010
    await continued(world, other, RuntimeError("read() called while another coroutine is already waiting"))
    assert failed > 1


async def test_a_claim_that_comes_twice_takes_the_stream_from_nobody_who_came_later(world: World) -> None:
    one, other, third = await world.replica(), await world.replica(), await world.replica()
    gate = gated(world.upstream, 5)
    call = one.begun()
    identity = await id_of(call)
    before = await some(call, 4)
    store = copies_of(other).store
    said: list[Ask] = []
    ask = store.ask

    async def kept(asks: Sequence[Ask]) -> None:
        said.extend(each for each in asks if each.key)
        await ask(asks)

    setattr(store, "ask", kept)  # noqa: B010
    await some(other.resumed(identity, 4), 2)
    latest = third.resumed(identity, 4)
    await some(latest, 1)
    place = copies_of(one)._asked_from
    await ask(said[:1])
    await reached(lambda: copies_of(one)._asked_from != place)
    gate.set()
    assert text_of(before + await rest(latest)) == WHOLE


async def test_where_redis_has_no_memory_a_caller_elsewhere_is_told_so_soon(world: World) -> None:
    one, other = await world.replica(), await world.replica()
    gate = gated(world.upstream, 5)
    call = one.begun()
    identity = await id_of(call)
    before = await some(call, 4)
    call.cancel()
    with world.redis.client() as client:
        await reached(lambda: bool(client.keys("headgate:{streams}:entries:*")))
        client.config_set("maxmemory", "1")
        async with asyncio.timeout(WITHIN_SECONDS), refused(StatusCode.UNAVAILABLE, ""):
            await rest(other.resumed(identity, 4))
        here = one.resumed(identity, 4)
        _, *more = await some(here, 2)
        gate.set()
        assert text_of(before + more + await rest(here)) == WHOLE
        client.config_set("maxmemory", "0")
    codes = set()
    found: list[Any] = []
    async with asyncio.timeout(20):
        while not found:
            try:
                found = await rest(other.resumed(identity, 0))
            except aio.AioRpcError as error:
                codes.add(error.code())
                await asyncio.sleep(0.05)
    assert codes <= {StatusCode.UNAVAILABLE}
    assert text_of(found) == WHOLE
