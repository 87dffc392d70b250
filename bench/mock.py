"""The mock upstream: an OpenAI-compatible server that costs next to nothing, in a process of its own.

`python -m bench.mock --port PORT` serves until SIGTERM or SIGINT, then prints its own CPU per request. The name of the
model says how the events of a stream are written: `tiny` gives each to the socket by itself, one after the other, as
servers do that flush each event; `tiny-one-write` all at once; `tiny-apart` one every 5 ms; `tiny-held` stops after the
first until `GET /release` lets all that are held be finished.
"""

import argparse
import asyncio
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar

import httptools
import orjson
import uvloop

from bench.answers import completion, stream_events

MODEL = "tiny"
ONE_WRITE_MODEL = "tiny-one-write"
APART_MODEL = "tiny-apart"
HELD_MODEL = "tiny-held"
MODELS = (MODEL, ONE_WRITE_MODEL, APART_MODEL, HELD_MODEL)

MOST_EVENTS_PER_SECOND = 12_000
"""Of the streams whose events come apart: with more of them open, each is slower, so that load and mock keep up."""

_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_LAST_CHUNK = b"0\r\n\r\n"


def json_answer(status: bytes, body: bytes) -> bytes:
    """A whole answer with its length."""
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def error_answer(status: bytes, message: str) -> bytes:
    """An error in OpenAI's form."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return json_answer(status, orjson.dumps({"error": error}))


def chunks(include_usage: bool) -> list[bytes]:
    """The events of a stream, each as a chunk of the chunked coding."""
    return [b"%x\r\n%b\r\n" % (len(event), event) for event in stream_events(include_usage)]


_LISTED = [{"id": model, "object": "model", "created": 1_760_000_000, "owned_by": "bench"} for model in MODELS]
_MODELS = json_answer(b"200 OK", orjson.dumps({"object": "list", "data": _LISTED}))
_RELEASED = json_answer(b"200 OK", b"{}")
_COMPLETION = json_answer(b"200 OK", completion())
_CHUNKS = {include_usage: chunks(include_usage) for include_usage in (False, True)}
_ONE_WRITE = {key: _STREAM_HEAD + b"".join(parts) + _LAST_CHUNK for key, parts in _CHUNKS.items()}
_NOT_FOUND = error_answer(b"404 Not Found", "There is nothing here.")
_BAD_BODY = error_answer(b"400 Bad Request", "The body is not a chat completion request.")


class MockProtocol(asyncio.Protocol):
    """One connection. Requests that were pipelined are answered in order."""

    answered = 0
    """Requests answered by this process."""
    paced = 0
    """Streams now open whose events come apart."""
    held: ClassVar[list[Callable[[], None]]] = []
    """What finishes each stream that is held."""

    def __init__(self, pace_seconds: float) -> None:
        self._pace = pace_seconds
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = self._body = b""
        self._waiting: deque[tuple[bytes, bytes, bytes, bool]] = deque()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self._transport is not None:
                self._transport.close()

    def on_message_begin(self) -> None:
        self._url = self._body = b""

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        asked = (self._parser.get_method(), self._url, self._body, self._parser.should_keep_alive())
        self._waiting.append(asked)
        if len(self._waiting) == 1:
            self._answer()

    def _answer(self) -> None:
        method, url, body, _ = self._waiting[0]
        if method == b"POST" and url == b"/v1/chat/completions":
            self._complete_chat(body)
        elif method == b"GET" and url == b"/v1/models":
            self._finish(_MODELS)
        elif method == b"GET" and url == b"/release":
            self._release()
        else:
            self._finish(_NOT_FOUND)

    def _complete_chat(self, body: bytes) -> None:
        try:
            request = orjson.loads(body)
            model, stream = request["model"], request.get("stream")
            include_usage = (request.get("stream_options") or {}).get("include_usage") is True
        except (ValueError, LookupError, TypeError, AttributeError):
            self._finish(_BAD_BODY)
            return
        if not stream:
            self._finish(_COMPLETION)
        elif model == ONE_WRITE_MODEL:
            self._finish(_ONE_WRITE[include_usage])
        elif model == APART_MODEL:
            MockProtocol.paced += 1
            self._send_next(_CHUNKS[include_usage], 0)
        elif model == HELD_MODEL:
            parts = _CHUNKS[include_usage]
            self._write(_STREAM_HEAD + parts[0] + parts[1])
            MockProtocol.held.append(partial(self._finish, b"".join(parts[2:]) + _LAST_CHUNK))
        else:
            self._send_each(_CHUNKS[include_usage])

    def _release(self) -> None:
        held, MockProtocol.held = MockProtocol.held, []
        for finish in held:
            finish()
        self._finish(_RELEASED)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _send_each(self, parts: list[bytes]) -> None:
        """Gives each event to the kernel by itself. uvloop's transport would gather them into one write."""
        if self._transport is None:
            return
        socket = self._transport.get_extra_info("socket").fileno()
        for part in (_STREAM_HEAD + parts[0], *parts[1:-1]):
            sent = 0
            if self._transport.get_write_buffer_size() == 0:
                with suppress(OSError):  # a full buffer, or a caller that left: the transport sees to it
                    sent = os.write(socket, part)
            if sent < len(part):
                self._transport.write(part[sent:])
        self._finish(parts[-1] + _LAST_CHUNK)

    def _send_next(self, parts: list[bytes], place: int) -> None:
        if self._transport is None or place == len(parts) - 1:
            MockProtocol.paced -= 1
            self._finish(parts[place] + _LAST_CHUNK)
            return
        self._transport.write(_STREAM_HEAD + parts[0] if place == 0 else parts[place])
        pace = max(self._pace, MockProtocol.paced / MOST_EVENTS_PER_SECOND)
        self._loop.call_later(pace, self._send_next, parts, place + 1)

    def _finish(self, answer: bytes) -> None:
        if self._transport is None:
            return
        self._transport.write(answer)
        MockProtocol.answered += 1
        *_, keep_alive = self._waiting.popleft()
        if not keep_alive:
            self._transport.close()
        elif self._waiting:
            self._answer()


async def serve(port: int, pace_seconds: float) -> None:
    """Serves on the loopback until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    server = await loop.create_server(lambda: MockProtocol(pace_seconds), "127.0.0.1", port, backlog=4096)
    before = time.process_time()
    await ended.wait()
    spent, count = time.process_time() - before, MockProtocol.answered
    print(f"mock upstream: {count} requests, {spent / max(count, 1) * 1e6:.1f} µs of CPU each", flush=True)
    server.close()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.mock", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pace-ms", type=float, default=5, help="between two events that come apart (default: 5)")
    options = parser.parse_args()
    uvloop.run(serve(options.port, options.pace_ms / 1000))


if __name__ == "__main__":
    main()
