"""What is known of one call and of one attempt, while they run and when they have ended."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.token_usage_pb2 import TokenUsage

from gateway_core.call import Call, Target
from gateway_core.errors import GatewayError
from gateway_core.telemetry import names

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


@dataclass(slots=True, eq=False)
class Ending:
    """Whether the server ends what is cancelled from now on, and not its caller."""

    has_come: bool = False


NEVER = Ending()


@dataclass(slots=True, eq=False)
class CallRecord:
    """A call as the stage `trace` sees it. Times are those of time.perf_counter, in seconds."""

    call: Call[Any]
    span: CallSpan
    ending: Ending = NEVER
    """The server's."""
    started: float = field(default_factory=time.perf_counter)
    ended: float = 0.0
    """0 until it has ended."""
    status: str = ""
    """ "ok", "cancelled", "interrupted" or the reason of its failure, in lower case: "model_not_found"."""
    error: BaseException | None = None
    first_event_at: float | None = None
    usage: TokenUsage | None = None
    """The last that an event told."""
    finish_reasons: dict[int, str] = field(default_factory=dict)
    """By the position of the answer."""
    response_model: str = ""
    response_id: str = ""
    attempts: list["AttemptRecord"] = field(default_factory=list)
    """All that were begun, until the call has ended."""

    def note(self, event: ChatCompletionChunk) -> None:
        """Takes note of what an event tells."""
        if self.first_event_at is None:
            self.first_event_at = time.perf_counter()
            self.response_id = event.id
        if not self.response_model:
            self.response_model = event.model
        for choice in event.choices:
            reason = choice.finish_reason
            if reason:
                self.finish_reasons[choice.index] = reason
        if event.HasField("usage"):
            self.usage = self.call.usage = self.call.operation.usage(event)

    @property
    def duration_seconds(self) -> float:
        """From its beginning to its end."""
        return self.ended - self.started

    @property
    def time_to_first_token_seconds(self) -> float | None:
        """From its beginning to the first event. None: there was none, or it is not streamed."""
        if self.first_event_at is None or not self.call.stream:
            return None
        return self.first_event_at - self.started

    @property
    def dialect(self) -> str:
        """What the call came by."""
        return names.known_dialect(self.call.metadata)

    @property
    def provider(self) -> str:
        """The provider that was asked last. Empty: none was."""
        return self.call.target.provider if self.call.target is not None else ""


@dataclass(slots=True, eq=False)
class AttemptRecord:
    """An attempt at a target. Times are those of time.perf_counter, in seconds."""

    call: Call[Any]
    target: Target
    span: AttemptSpan
    number: int
    """Which attempt of its call, from 1."""
    answer: CallRecord | None = None
    """The call that its events answer. None: it did not open, or nobody watches."""
    started: float = field(default_factory=time.perf_counter)
    ended: float = 0.0
    """0 until it has ended."""
    status: str = ""
    """As in CallRecord."""
    error: BaseException | None = None
    upstream_request_id: str = ""
    """What the provider calls it, once it has opened or failed. Empty: it did not tell."""
    observer: Observer | None = None
    """Told once, when it has ended."""


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
