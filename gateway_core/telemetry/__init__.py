"""What the core tells of itself: one log line, metrics and, where asked for, spans for each call.

The stage `trace` begins and ends the record of a call; the stage `fallback` begins those of the attempts below it. An
attempt that opened ends together with its call, with the outcome that the stage `trace` saw: so the events are watched
once, not once more for the attempt.
"""

import asyncio
import os
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from typing import Any
from urllib.parse import urlsplit

from gateway_core.call import Call
from gateway_core.config import Config
from gateway_core.telemetry import names
from gateway_core.telemetry.log import CallLog
from gateway_core.telemetry.metrics import Metrics
from gateway_core.telemetry.record import AttemptRecord, CallRecord, Ending, Observer, status
from gateway_core.telemetry.tracing import Address, Tracer, tracer


class Telemetry:
    """Records how calls and attempts end."""

    def __init__(self, config: Config, environ: Mapping[str, str] = os.environ) -> None:
        """Takes the configuration, and the variables that say whether to trace. `configure_log` comes before."""
        version = version_of(names.SERVICE)
        self.metrics = Metrics(version=version, models=configured_models(config))
        self._log = CallLog()
        self._tracer: Tracer = tracer(environ, version, provider_addresses(config))
        self.attempts = Attempts(self.metrics)
        self._untold: list[CallRecord] = []
        self._ending = Ending()

    @property
    def calls_in_flight(self) -> int:
        """How many calls have begun and not ended."""
        return self.metrics.calls_in_flight

    def begin(self, call: Call[Any]) -> CallRecord:
        """Begins the record of a call; it must be given to `end`."""
        self.metrics.calls_in_flight += 1
        record = call.record = CallRecord(call, self._tracer.begin(call), self._ending)
        return record

    def end_comes(self) -> None:
        """Hears that the server's own end cancels calls from now on: they are not cancelled, but interrupted."""
        self._ending.has_come = True

    def end(self, record: CallRecord, error: BaseException | None) -> None:
        """Notes how a call ended, and with it the attempt that answered; only the first time counts.

        It is told at the next turn of the event loop, together with all that end in this one: that costs half as much.
        """
        if record.ended:
            return
        record.ended = time.perf_counter()
        record.status = status(error, record.call)
        record.error = error
        self.metrics.calls_in_flight -= 1
        self._untold.append(record)
        if len(self._untold) == 1:
            try:
                asyncio.get_running_loop().call_soon(self.tell)
            except RuntimeError:  # there is no loop
                self.tell()

    def tell(self) -> None:
        """Tells of the calls that have ended and were not told of."""
        records, self._untold = self._untold, []
        for record in records:
            only = record.only_attempt()
            if only is None:
                for attempt in record.attempts:
                    self.attempts.end(attempt, record.status, record.error, record.ended)
                self.metrics.record_call(record)
            else:
                only.ended, only.status = record.ended, record.status
                if only.observer is not None:
                    only.observer.ended(None)
                self.metrics.record_well(record, only)
                only.span.end(only)
            record.span.end(record)
        self._log.write(records)
        for record in records:
            # They know each other, and an error all that its call held: left so, only the garbage collector would free
            # them.
            for attempt in record.attempts:
                if attempt.error is not None:
                    forget_frames(attempt.error)
                    attempt.error = None
            if record.error is not None:
                forget_frames(record.error)
            record.attempts.clear()
            record.call.record = record.error = None

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The body of GET /metrics and its content type, in the form that the Accept header asks for."""
        return self.metrics.exposition(accept)

    async def close(self) -> None:
        """Tells what was not told; waits some seconds for a collector of spans that does not answer."""
        self.tell()
        await self._tracer.close()


def forget_frames(error: BaseException | None) -> None:
    """Takes from an error, and those behind it, the frames they were raised in, which hold it and all of its call."""
    while error is not None and error.__traceback__ is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


class Attempts:
    """Records how attempts at providers end."""

    def __init__(self, metrics: Metrics) -> None:
        """Takes where they are counted."""
        self._metrics = metrics

    def begin(self, call: Call[Any], observer: Observer | None = None) -> AttemptRecord:
        """Begins the record of an attempt at call.target; it must be given to `failed` or `opened`."""
        assert call.target is not None, "the stage `fallback` sets the target"
        record = AttemptRecord(call, call.target, call.attempt_count, observer)
        answered = call.record
        if isinstance(answered, CallRecord):
            record.span = answered.span.attempt(call, call.target)
            answered.attempts.append(record)
        return record

    def failed(self, record: AttemptRecord, error: BaseException) -> None:
        """Tells that an attempt did not open."""
        record.upstream_request_id = record.call.upstream_request_id
        self.end(record, status(error, record.call), error, time.perf_counter())

    def last(self, record: AttemptRecord) -> None:
        """Puts an attempt that opens behind those that began after it: the last of a call is the one that answers."""
        answered = record.call.record
        if isinstance(answered, CallRecord) and answered.attempts and answered.attempts[-1] is not record:
            answered.attempts.remove(record)
            answered.attempts.append(record)

    def opened(self, record: AttemptRecord) -> None:
        """Notes that an attempt has opened: it ends when the stage `trace` sees its call end."""
        record.upstream_request_id = record.call.upstream_request_id
        answered = record.call.record
        record.answer = answered if isinstance(answered, CallRecord) else None

    def end(self, record: AttemptRecord, status: str, error: BaseException | None, ended: float) -> None:
        """Tells how an attempt ended, and when; only the first time counts."""
        if record.ended:
            return
        record.ended = ended
        record.status = status
        record.error = error
        if record.observer is not None:
            record.observer.ended(error)
        self._metrics.record_attempt(record)
        record.span.end(record)


def version_of(distribution: str) -> str:
    """The version that is installed. Empty: it runs from a tree that is not."""
    try:
        return installed_version(distribution)
    except PackageNotFoundError:
        return ""


def configured_models(config: Config) -> Iterator[str]:
    """The names of models that the configuration has: those callers use, and those providers use."""
    for name, model in config.models.items():
        yield name
        for target in model.targets:
            yield target.model
            yield f"{target.provider}/{target.model}"


def provider_addresses(config: Config) -> dict[str, Address]:
    """Where the providers are, without the credentials that a URL can hold."""
    parts = {name: urlsplit(row.base_url) for name, row in config.providers.items() if row.base_url is not None}
    return {name: Address(part.hostname or "", part.port) for name, part in parts.items()}
