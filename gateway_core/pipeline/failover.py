"""Goes on at another target where one fails in the midst of a streamed answer."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_pb2 import ChatCompletionSpec

from gateway_core.call import Call, Events, Next, Target
from gateway_core.errors import GatewayError, InvalidRequest
from gateway_core.metering.usage import token_count
from gateway_core.routing.board import Board
from gateway_core.routing.continued import Continued, continued_spec
from gateway_core.routing.failure import TABLE, Failure, failure
from gateway_core.routing.failure import Next as Where
from gateway_core.routing.route import Route
from gateway_core.routing.sent import CONTENT, Continuation, Differs, Repetition, Sent
from gateway_core.telemetry import Telemetry
from gateway_core.telemetry.record import AttemptRecord, CallRecord, failed_attempt

STARTED = ChatCompletionChunk()

Joined = Callable[[ChatCompletionChunk], ChatCompletionChunk | None]
"""What the caller gets of an event of another target. None: nothing. Raises Differs."""


class Way:
    """One answer and the targets that have failed in the midst of it."""

    def __init__(self, call: Call[Any], next: Next[Any]) -> None:
        """Takes the call, and what opens it."""
        self.call = call
        self.next = next
        self.sent = Sent()
        self.failed: list[Target] = []
        self.first: GatewayError | None = None
        """The first failure: what the caller is told where nobody can go on."""
        self.spoke: AttemptRecord | None = None
        """The attempt whose words the caller has read last."""

    @property
    def attempt(self) -> AttemptRecord | None:
        """The attempt that began last. None: nobody watches."""
        seen = self.call.record
        return seen.attempts[-1] if isinstance(seen, CallRecord) and seen.attempts else None

    @property
    def may_go_on(self) -> bool:
        """Whether the answer is one that another target can go on with."""
        spec = self.call.request
        is_one = isinstance(spec, ChatCompletionSpec) and spec.n <= 1
        return is_one and isinstance(self.call.route, Route) and self.sent.can_be_repeated and not self.sent.is_ended


class Stage:
    """Outside of the stage `fallback`, which finds the target that goes on as it finds any; inside of `meter`, which
    sees one answer."""

    def __init__(self, telemetry: Telemetry, board: Board, *, is_on: bool) -> None:
        """Takes where attempts are told, what is known of the targets, and whether to do anything."""
        self._attempts = telemetry.attempts
        self._board = board
        self._is_on = is_on

    def __call__(self, call: Call[Any], next: Next[Any]) -> Awaitable[Events]:
        """Opens the call."""
        if not call.stream or len(call.targets) == 1 or not self._is_on:
            return next(call)
        return self._watched(call, next)

    async def _watched(self, call: Call[Any], next: Next[Any]) -> Events:
        events = await next(call)
        watched = self._watch(call, events, next)
        # As in the stage `trace`: closing a generator that has not run yet runs none of it.
        await anext(watched)
        return watched

    async def _watch(self, call: Call[Any], events: Events, next: Next[Any]) -> Events:
        way = Way(call, next)
        sent = way.sent
        joined: Joined | None = None
        has_spoken = False
        try:
            yield STARTED
            while True:
                try:
                    async for event in events:
                        said = event if joined is None else joined(event)
                        if said is None:
                            continue
                        sent.note(said)
                        has_spoken = True
                        yield said
                    return
                except (Differs, GatewayError) as error:
                    await events.aclose()
                    if has_spoken:
                        way.spoke = way.attempt
                    has_spoken = False
                    events, joined = await self._other(way, error)
        finally:
            await events.aclose()

    async def _other(self, way: Way, error: Differs | GatewayError) -> tuple[Events, Joined]:
        """The events of a target that goes on, and how they are joined to what was sent; raises the first failure."""
        first = way.first
        if first is not None:
            # Whatever the caller is told, each target answers for its own failure; to say other words is none.
            self._end_attempt(way, error if isinstance(error, GatewayError) else asyncio.CancelledError())
        elif isinstance(error, GatewayError):
            first = way.first = error
        assert first is not None, "only another answer can differ"
        route = self._route(way, error) if isinstance(error, GatewayError) else None
        if route is None or not self._board.budget.take(self._board.clock()):
            raise self._given_up(way, first) from None
        if error is first:
            self._end_attempt(way, first)
        try:
            return await self._opened(way, route)
        except GatewayError:
            raise self._given_up(way, first) from None

    def _route(self, way: Way, error: GatewayError) -> Route | None:
        """The way to the targets that are left after a failure. None: nobody can go on."""
        call, what = way.call, failure(error)
        if what is None or TABLE[what].next is not Where.ANY or not way.may_go_on or call.target is None:
            return None
        way.failed.append(call.target)
        assert isinstance(call.route, Route), "checked by may_go_on"
        return call.route.without(way.failed, call)

    async def _opened(self, way: Way, route: Route) -> tuple[Events, Joined]:
        spec, sent = way.call.request, way.sent
        if sent.can_be_continued and is_free_text(spec):
            continuation = Continuation(sent)
            told = token_count(len(sent.text(CONTENT)))
            continued = Continued(way.call.operation, continued_spec(spec, continuation.beginning, told))
            try:
                events = await asked_again(way, route, continued)
            except GatewayError as error:
                is_wrong = isinstance(error, InvalidRequest) or failure(error) is Failure.REFUSED
                if not is_wrong or not self._board.budget.take(self._board.clock()):
                    raise
                # The vendor takes no beginning, though nothing told of it.
            else:
                if continued.goes_on(way.call.target):
                    return events, lambda event: counted(continuation.event(event), told)
                return events, Repetition(sent).event
        return await asked_again(way, route), Repetition(sent).event

    def _end_attempt(self, way: Way, error: BaseException) -> None:
        """Tells that the attempt has failed that had opened."""
        attempt = way.attempt
        if attempt is not None:
            self._attempts.failed(attempt, error)
            way.call.failed_attempts += (failed_attempt(attempt, error),)

    def _given_up(self, way: Way, first: GatewayError) -> GatewayError:
        """What the caller is told; the answer is that of the target whose words the caller has."""
        if way.spoke is not None and way.call.attempt_count > 1:
            self._attempts.last(way.spoke)
            way.call.target = way.spoke.target
        return first


async def asked_again(way: Way, route: Route, operation: Continued | None = None) -> Events:
    """The events of other targets."""
    call = way.call
    again = replace(call, operation=operation or call.operation, route=route, targets=route.targets, rewrites=[])
    try:
        return await way.next(again)
    finally:
        call.target, call.attempt_count = again.target, again.attempt_count
        call.failed_attempts = again.failed_attempts
        call.upstream_request_id = again.upstream_request_id


def is_free_text(spec: ChatCompletionSpec) -> bool:
    """Whether an answer may be any text: one that must have a form is not continued from its middle."""
    return not spec.HasField("response_format") or spec.response_format.type in ("", "text")


def counted(event: ChatCompletionChunk | None, tokens: int) -> ChatCompletionChunk | None:
    """The event with its usage as that of the whole answer, whose beginning the target was told as of its prompt."""
    if event is not None and event.HasField("usage"):
        usage = event.usage
        moved = min(tokens, usage.prompt_tokens)
        usage.prompt_tokens -= moved
        usage.completion_tokens += moved
    return event
