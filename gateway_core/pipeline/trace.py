"""Sees how every call ends, whatever ended it, and tells the telemetry once."""

from typing import Any

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk

from gateway_core.call import Call, Events, Given, Next, whole
from gateway_core.errors import GatewayError, Internal
from gateway_core.telemetry import Telemetry
from gateway_core.telemetry.record import CallRecord, failed_attempt

FAULT = "Headgate failed; the log tells why, under the request id."
STARTED = ChatCompletionChunk()


class Stage:
    """The outermost stage."""

    def __init__(self, telemetry: Telemetry) -> None:
        """Takes whom to tell."""
        self._telemetry = telemetry

    async def __call__(self, call: Call[Any], next: Next[Any]) -> Events:
        """Opens, and watches the events until they end."""
        telemetry = self._telemetry
        record = telemetry.begin(call)
        try:
            events = await next(call)
            if not call.stream:
                answer = events if isinstance(events, Given) else await whole(events)
                record.note_whole(answer.said)
                telemetry.end(record, None)
                return answer
        except Exception as error:
            telemetry.end(record, error)
            if isinstance(error, GatewayError):
                raise
            raise Internal(FAULT) from error
        except BaseException as error:
            telemetry.end(record, error)
            raise
        for each in (call, *(attempt.call for attempt in record.attempts)):  # a second one beside it has a copy
            each.let_go()
        watched = self._watch(record, events)
        # Closing a generator that has not run yet runs none of it, and a caller may leave before the first event: so it
        # runs as far as its `try` now.
        await anext(watched)
        return watched

    async def _watch(self, record: CallRecord, events: Events) -> Events:
        try:
            try:
                yield STARTED
                async for event in events:
                    record.note(event)
                    yield event
            finally:
                await events.aclose()
        except Exception as error:
            self._telemetry.end(record, error)
            tell_attempt(record, error)
            failure = error if isinstance(error, GatewayError) else Internal(FAULT)
            if record.first_event_at is not None:
                failure.metadata |= partial(record)
            if failure is error:
                raise
            raise failure from error
        except BaseException as error:
            self._telemetry.end(record, error)
            raise
        self._telemetry.end(record, None)


def tell_attempt(record: CallRecord, error: Exception) -> None:
    """Tells the caller of the attempt that had opened and failed with its call."""
    if record.attempts and not record.attempts[-1].ended:
        record.call.failed_attempts += (failed_attempt(record.attempts[-1], error),)


def partial(record: CallRecord) -> dict[str, str]:
    """What the caller is told of an answer that has begun and will not end: that it is partial, and what it used."""
    told = {"partial": "true"}
    if record.usage is not None:
        told["prompt_tokens"] = str(record.usage.prompt)
        told["completion_tokens"] = str(record.usage.completion)
    return told
