"""The log: one line a call and what else happens, as JSON or for a terminal.

What the standard library's loggers tell (uvicorn, gRPC, asyncio …) comes in the same form.
"""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterable, MutableMapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson
import structlog
from structlog.typing import FilteringBoundLogger, WrappedLogger

from gateway_core.config import LogConfig
from gateway_core.telemetry import names
from gateway_core.telemetry.call_line import UsualLines, add_call, call_fields, call_level
from gateway_core.telemetry.record import CallRecord

if sys.platform == "win32":
    fcntl = None
else:
    import fcntl

LINE = orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS
LEVELS = {logging.INFO: "info", logging.WARNING: "warning", logging.ERROR: "error"}
"""Those of the lines of calls."""

Event = MutableMapping[str, Any]

OF_ALL_LINES: dict[str, Any] = {}
"""What every line of the process tells."""

# They bring handlers of their own, or are silenced, where nobody tells them otherwise.
FOREIGN_LOGGERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "grpc", "asyncio", "aiohttp")


@dataclass(frozen=True, slots=True)
class LogWorker:
    """One of several processes that write to the same place."""

    number: int | None
    """None: it watches over the others."""
    lock: Path
    """A file that they lock in turn."""


def configure_log(config: LogConfig, stream: BinaryIO | None = None, worker: LogWorker | None = None) -> None:
    """Sets up structlog and the standard library's logging, for the whole process; the last time counts.

    Lines go to the standard error, or to `stream`. Of the standard library's loggers, warnings and above are told.
    """
    OF_ALL_LINES.clear()
    if worker is not None and worker.number is not None:
        OF_ALL_LINES[names.WORKER] = worker.number
    level = logging.getLevelNamesMapping()[config.level.upper()]
    terminal = (stream or sys.stderr).isatty()
    is_json = config.format == "json" or (config.format == "auto" and not terminal)
    sink = Sink(stream, is_json=is_json, turn=None if worker is None else Turn(worker.lock))
    structlog.configure(
        processors=[
            stamped,
            structlog.processors.format_exc_info,
            json_line if is_json else ConsoleLine(colors=terminal and not os.environ.get("NO_COLOR")),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: sink,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    for present in [present for present in root.handlers if isinstance(present, Foreign)]:
        root.removeHandler(present)
    root.addHandler(Foreign(max(level, logging.WARNING)))
    for name in FOREIGN_LOGGERS:
        foreign = logging.getLogger(name)
        foreign.handlers.clear()
        foreign.propagate = True


class Turn:
    """Has one process at a time write: pipes mix what several write at once, beyond 4096 bytes (pipe(7), PIPE_BUF)."""

    def __init__(self, path: Path) -> None:
        """Takes the file that all of them lock; it stays open, and the lock ends, with the process."""
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)

    def __enter__(self) -> None:
        if fcntl is not None:
            fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        if fcntl is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)


class Sink:
    """Where lines end: the end of structlog's chain, one method for each level."""

    def __init__(self, stream: BinaryIO | None, *, is_json: bool, turn: Turn | None = None) -> None:
        """Takes the stream (None: the standard error of the moment), and whether lines are JSON or for a terminal.

        And, where several processes write to the stream, whose turn it is.
        """
        self.is_json = is_json
        self._stream = stream
        self._lock = threading.Lock()
        self._turn = turn or nullcontext()

    def write(self, line: bytes) -> None:
        """Writes a line at once; one that cannot be written is lost, because a full disk must not fail a call."""
        stream = self._stream or sys.stderr.buffer
        try:
            with self._lock, self._turn:
                stream.write(line)
                stream.flush()
        except (OSError, ValueError):  # ValueError: the stream is closed
            pass

    debug = info = warning = error = critical = write


class Foreign(logging.Handler):
    """Takes the standard library's records into structlog's chain."""

    def __init__(self, level: int) -> None:
        """Takes the least level."""
        super().__init__(level)
        self._log = bound_log()

    def emit(self, record: logging.LogRecord) -> None:
        """Logs a record."""
        level = min(record.levelno // 10 * 10, logging.CRITICAL)  # structlog knows the five levels only
        self._log.log(level, record.getMessage(), **{names.LOGGER: record.name, "exc_info": record.exc_info})


def bound_log() -> FilteringBoundLogger:
    """A logger in the configuration of now: it skips the proxy, which would cost more than the line."""
    return cast(FilteringBoundLogger, structlog.get_logger().bind())


class Clock:
    """Tells the time as lines have it, UTC and in milliseconds; most of it is made once a second."""

    def __init__(self) -> None:
        """Begins anywhere."""
        self._last = (-1, "")

    def now(self) -> str:
        """The time in the form of RFC 3339."""
        second, milliseconds = divmod(time.time_ns() // 1_000_000, 1000)
        known, text = self._last
        if second != known:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._last = (second, text)
        return f"{text}.{milliseconds:03}Z"


CLOCK = Clock()


def stamped(_: WrappedLogger, level: str, event: Event) -> Event:
    """The event with its time and level, which lead the line."""
    return {names.TIMESTAMP: CLOCK.now(), names.LEVEL: level, names.EVENT: event.pop("event"), **OF_ALL_LINES, **event}


def json_line(_: WrappedLogger, __: str, event: Event) -> bytes:
    """The event as one line of JSON."""
    try:
        return orjson.dumps(event, str, orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        return odd_line(event)


def odd_line(event: Event) -> bytes:
    """The same of an event that has something odd; to look for keys that are no texts costs half as much again."""
    try:
        return orjson.dumps(event, str, LINE)
    except TypeError:  # half a surrogate pair, which JSON can escape and UTF-8 cannot hold, or a number beyond 64 bits
        return json.dumps(event, default=str).encode() + b"\n"


class ConsoleLine:
    """The event as a line for a person."""

    def __init__(self, *, colors: bool) -> None:
        """Takes whether the terminal shows colours."""
        self._render = structlog.dev.ConsoleRenderer(
            colors=colors,
            sort_keys=False,
            pad_event_to=0,
            exception_formatter=structlog.dev.plain_traceback,  # the others show local variables, and so keys
        )

    def __call__(self, logger: WrappedLogger, level: str, event: Event) -> bytes:
        """Escapes what would move the cursor: callers write some of the texts."""
        safe = {key: value if key == names.EXCEPTION else _printable(value) for key, value in event.items()}
        return (self._render(logger, level, safe) + "\n").encode("utf-8", "backslashreplace")


def _printable(value: object) -> object:
    return repr(value) if isinstance(value, str) and not value.isprintable() else value


class CallLog:
    """Writes one line for each call that has ended."""

    def __init__(self) -> None:
        """Takes the configuration of the log as it is now."""
        self._log = bound_log()
        sink = structlog.get_config()["logger_factory"]()
        self._json_sink = sink if isinstance(sink, Sink) and sink.is_json else None
        self._told = {level for level in LEVELS if self._log.is_enabled_for(level)}
        tells_usual = self._json_sink is not None and logging.INFO in self._told
        self._usual = UsualLines(OF_ALL_LINES.copy()) if tells_usual else None

    def write(self, records: Iterable[CallRecord]) -> None:
        """Writes the lines of calls that end together, those that may go in one piece."""
        lines: list[bytes] = []
        now = CLOCK.now()
        usual, now_bytes = self._usual, now.encode()
        for record in records:
            if usual is not None and (line := usual.line(record, now_bytes)) is not None:
                lines.append(line)
                continue
            level = call_level(record)
            if level not in self._told:
                continue
            if self._json_sink is not None and level != logging.ERROR:
                lines.append(self._line(record, LEVELS[level], now))
                continue
            self._send(lines)
            self._log.log(level, names.CALL, **call_fields(record))
        self._send(lines)

    def _line(self, record: CallRecord, level: str, now: str) -> bytes:
        """What structlog's chain makes: the chain would cost more than all else that is told of a call."""
        fields = {names.TIMESTAMP: now, names.LEVEL: level, names.EVENT: names.CALL, **OF_ALL_LINES}
        add_call(fields, record)
        return json_line(self._log, level, fields)

    def _send(self, lines: list[bytes]) -> None:
        if lines and self._json_sink is not None:
            self._json_sink.write(b"".join(lines))
            lines.clear()
