"""What is known of one call and of one attempt, while they run and when they have ended."""

import asyncio
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk

from gateway_core.call import Call, Target
from gateway_core.errors import GatewayError
from gateway_core.said import Said
from gateway_core.telemetry import names
from gateway_core.tokens import Tokens, tokens_of

# gRPC's timers and the event loop's do not tick together: a call cancelled this little before its deadline, in seconds,
# was cancelled by it.
DEADLINE_SLACK = 0.01


class CallSpan(Protocol):
    """The span of a call, and where those of its attempts hang."""

    def attempt(self, call: Call[Any], target: Target) -> "AttemptSpan":
        """Begins the span of an attempt."""
        ...

    def end(self, record: "CallRecord") -> None:
        """Ends the span with all that the record tells."""
        ...


class Observer(Protocol):
    """What wants to know how attempts end."""

    def ended(self, error: BaseException | None, /) -> None:
        """Tells of an attempt that has just ended. None: it went well."""
        ...


class AttemptSpan(Protocol):
    """The span of an attempt."""

    def end(self, record: "AttemptRecord") -> None:
        """Ends the span with all that the record tells."""
        ...


class Ending:
    """Whether the server ends what is cancelled from now on, and not its caller."""

    __slots__ = ("has_come",)

    def __init__(self) -> None:
        """It does not end yet."""
        self.has_come = False


NEVER = Ending()
NO_REASONS: Mapping[int, str] = MappingProxyType({})


class CallRecord:
    """A call as the stage `trace` sees it. Times are those of time.perf_counter, in seconds."""

    __slots__ = (
        "attempts", "call", "dialect", "ended", "ending", "error", "finish_reasons", "first_event_at", "response_id",
        "response_model", "span", "started", "status", "usage",
    )  # fmt: skip

    def __init__(self, call: Call[Any], span: CallSpan, ending: Ending = NEVER) -> None:
        """Begins now."""
        self.call = call
        self.span = span
        self.ending = ending
        """The server's."""
        self.dialect = names.known_dialect(call.metadata)
        """What the call came by."""
        self.started = time.perf_counter()
        self.ended = 0.0
        """0 until it has ended."""
        self.status = ""
        """ "ok", "cancelled", "interrupted" or the reason of its failure, in lower case: "model_not_found"."""
        self.error: BaseException | None = None
        self.first_event_at: float | None = None
        self.usage: Tokens | None = None
        """The last that an event told."""
        self.finish_reasons: Mapping[int, str] = NO_REASONS
        """By the position of the answer."""
        self.response_model = ""
        self.response_id = ""
        self.attempts: list[AttemptRecord] = []
        """All that were begun, until the call has ended."""

    def note(self, event: ChatCompletionChunk) -> None:
        """Takes note of what an event tells."""
        if self.first_event_at is None:
            self.first_event_at = time.perf_counter()
            self.response_id = event.id
        if not self.response_model:
            self.response_model = event.model
        choices = event.choices
        # The one by its place, or a list: to walk a repeated field itself costs three times as much.
        for choice in (choices[0],) if len(choices) == 1 else choices[:]:
            reason = choice.finish_reason
            if reason:
                self.finish_reasons = {**self.finish_reasons, choice.index: reason}
        told = self.call.operation.usage(event)
        if told is not None:
            self.usage = self.call.usage = tokens_of(told)

    def note_whole(self, said: Said) -> None:
        """Takes note of what an answer tells that came whole."""
        self.first_event_at = time.perf_counter()
        self.response_id, self.response_model, self.finish_reasons, _, usage = said
        self.usage = self.call.usage = usage

    def only_attempt(self) -> "AttemptRecord | None":
        """The attempt of a call that was answered whole, as asked and at once. None: it went another way."""
        call, attempts = self.call, self.attempts
        if self.error is not None or call.stream or call.rewrites or len(attempts) != 1 or not call.targets:
            return None
        (attempt,) = attempts
        is_told = attempt.ended or attempt.answer is not self or attempt.target is not call.target
        return None if is_told else attempt

    @property
    def provider(self) -> str:
        """The provider that was asked last. Empty: none was."""
        return self.call.target.provider if self.call.target is not None else ""


class AttemptRecord:
    """An attempt at a target. Times are those of time.perf_counter, in seconds."""

    __slots__ = (
        "answer", "call", "ended", "error", "number", "observer", "span", "started", "status", "target",
        "upstream_request_id",
    )  # fmt: skip

    def __init__(self, call: Call[Any], target: Target, number: int, observer: Observer | None) -> None:
        """Begins now. Takes which attempt of its call it is, from 1, and whom to tell once when it has ended."""
        self.call = call
        self.target = target
        self.span: AttemptSpan = NO_SPAN
        self.number = number
        self.observer = observer
        self.answer: CallRecord | None = None
        """The call that its events answer. None: it did not open, or nobody watches."""
        self.started = time.perf_counter()
        self.ended = 0.0
        """0 until it has ended."""
        self.status = ""
        """As in CallRecord."""
        self.error: BaseException | None = None
        self.upstream_request_id = ""
        """What the provider calls it, once it has opened or failed. Empty: it did not tell."""


class NoSpan:
    """The span of a call, and of an attempt, that nobody wants to see."""

    def attempt(self, call: Call[Any], target: Target) -> AttemptSpan:
        """No span either."""
        return self

    def end(self, record: CallRecord | AttemptRecord) -> None:
        """Does nothing."""


NO_SPAN = NoSpan()


def failed_attempt(attempt: AttemptRecord, error: BaseException) -> str:
    """What callers are told of an attempt that failed: "lab/tiny=503", or the reason where there is no HTTP status."""
    told = error.metadata.get("upstream_status") if isinstance(error, GatewayError) else None
    return f"{attempt.target.provider}/{attempt.target.model}={told or status(error, attempt.call)}"


def status(error: BaseException | None, call: Call[Any]) -> str:
    """What ended a call in one word: "ok", "cancelled" by its caller, "interrupted" by the end of the server, or why.

    That is the reason of the contract in lower case, shortened.
    """
    if error is None:
        return names.OK
    if isinstance(error, GatewayError):
        return error.word
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        if _is_overdue(call):
            return names.DEADLINE_EXCEEDED
        record = call.record
        return names.INTERRUPTED if isinstance(record, CallRecord) and record.ending.has_come else names.CANCELLED
    return names.INTERNAL


def _is_overdue(call: Call[Any]) -> bool:
    return call.deadline is not None and asyncio.get_running_loop().time() >= call.deadline - DEADLINE_SLACK
