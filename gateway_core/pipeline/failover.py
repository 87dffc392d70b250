"""Goes on at another target where one fails in the midst of a streamed answer."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.chat_pb2 import ChatCompletionSpec

from gateway_core.call import Call, Events, Next, Target
from gateway_core.errors import GatewayError, InvalidRequest, ProviderRefused
from gateway_core.metering.usage import token_count
from gateway_core.routing.board import Board
from gateway_core.routing.failure import TABLE, failure
from gateway_core.routing.failure import Next as Where
from gateway_core.routing.route import Route
from gateway_core.routing.sent import CONTENT, Continuation, Differs, Repetition, Sent
from gateway_core.telemetry import Telemetry
from gateway_core.telemetry.record import CallRecord

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

    async def __call__(self, call: Call[Any], next: Next[Any]) -> Events:
        """Opens the call."""
        events = await next(call)
        if not call.stream or len(call.targets) == 1 or not self._is_on:
            return events
        watched = self._watch(call, events, next)
        # As in the stage `trace`: closing a generator that has not run yet runs none of it.
        await anext(watched)
        return watched

    async def _watch(self, call: Call[Any], events: Events, next: Next[Any]) -> Events:
        way = Way(call, next)
        sent = way.sent
        joined: Joined | None = None
        try:
            yield STARTED
            while True:
                try:
                    async for event in events:
                        said: ChatCompletionChunk | None = event
                        if joined is not None and (said := joined(event)) is None:
                            continue
                        assert said is not None, "checked above"
                        sent.note(said)
                        yield said
                    return
                except Differs:
                    assert way.first is not None, "only another answer can differ"
                    raise way.first from None
                except GatewayError as error:
                    await events.aclose()
                    events, joined = await self._other(way, error)
        finally:
            await events.aclose()

    async def _other(self, way: Way, error: GatewayError) -> tuple[Events, Joined]:
        """The events of a target that goes on, and how they are joined to what was sent; raises the first failure."""
        first = way.first = way.first or error
        call, what = way.call, failure(error)
        if what is None or TABLE[what].next is not Where.ANY or not way.may_go_on or call.target is None:
            raise first
        way.failed.append(call.target)
        assert isinstance(call.route, Route), "checked by may_go_on"
        route = call.route.without(way.failed)
        if route is None or not self._board.budget.take(self._board.clock()):
            raise first
        self._end_attempt(call, error)
        try:
            return await self._opened(way, route)
        except GatewayError:
            raise first from None

    async def _opened(self, way: Way, route: Route) -> tuple[Events, Joined]:
        spec, sent = way.call.request, way.sent
        if sent.can_be_continued and is_free_text(spec):
            continuation = Continuation(sent)
            asked = ChatCompletionSpec()
            asked.CopyFrom(spec)
            asked.prefill = spec.prefill + continuation.beginning
            told = token_count(len(sent.text(CONTENT)))
            for limit in ("max_tokens", "max_completion_tokens"):
                if spec.HasField(limit):
                    setattr(asked, limit, max(1, getattr(spec, limit) - told))
            try:
                again, events = await asked_again(way, asked, route)
            except (InvalidRequest, ProviderRefused):
                pass  # the target takes no beginning
            else:
                if all(rewrite.name != "prefill" for rewrite in again.rewrites):
                    return events, lambda event: counted(continuation.event(event), told)
                # It was left out: what comes is an answer from its beginning.
                return events, Repetition(sent).event
        _, events = await asked_again(way, spec, route)
        return events, Repetition(sent).event

    def _end_attempt(self, call: Call[Any], error: GatewayError) -> None:
        """Tells that the attempt has failed that had opened."""
        seen = call.record
        if isinstance(seen, CallRecord) and seen.attempts:
            attempt = seen.attempts[-1]
            self._attempts.failed(attempt, error)
            told = error.metadata.get("upstream_status") or attempt.status
            call.failed_attempts += (f"{attempt.target.provider}/{attempt.target.model}={told}",)


async def asked_again(way: Way, spec: ChatCompletionSpec, route: Route) -> tuple[Call[Any], Events]:
    """Asks other targets; the call, and its events."""
    call = way.call
    again = replace(call, request=spec, route=route, targets=route.targets, rewrites=[])
    try:
        events = await way.next(again)
    finally:
        call.target, call.attempt_count = again.target, again.attempt_count
        call.failed_attempts = again.failed_attempts
        call.upstream_request_id = again.upstream_request_id
    return again, events


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
