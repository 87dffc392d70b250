"""The mock upstream: an OpenAI-compatible server that costs next to nothing, in a process of its own.

`python -m bench.mock --port PORT` serves until SIGTERM or SIGINT, then prints its own CPU per request. The model `tiny`
streams its events in one write, `tiny-apart` one by one.
"""

import argparse
import asyncio
import signal
import time
from collections import deque
from typing import Any

import httptools
import orjson
import uvloop

from bench.answers import completion, stream_events

APART_SUFFIX = "-apart"
"""Ending of the names of models whose events come apart."""
MODELS = ("tiny", "tiny" + APART_SUFFIX)

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
_COMPLETION = json_answer(b"200 OK", completion())
_CHUNKS = {include_usage: chunks(include_usage) for include_usage in (False, True)}
_BURSTS = {key: _STREAM_HEAD + b"".join(parts) + _LAST_CHUNK for key, parts in _CHUNKS.items()}
_NOT_FOUND = error_answer(b"404 Not Found", "There is nothing here.")
_BAD_BODY = error_answer(b"400 Bad Request", "The body is not a chat completion request.")


class MockProtocol(asyncio.Protocol):
    """One connection. Requests that were pipelined are answered in order."""

    answered = 0
    """Requests answered by this process."""

    def __init__(self, pace_seconds: float) -> None:
        self._pace = pace_seconds
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = self._body = b""
        self._waiting: deque[tuple[bytes, bytes, bytes, bool]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, _error: Exception | None) -> None:
        self._transport = None
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()

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
        elif str(model).endswith(APART_SUFFIX):
            self._send_next(_CHUNKS[include_usage], 0)
        else:
            self._finish(_BURSTS[include_usage])

    def _send_next(self, parts: list[bytes], place: int) -> None:
        if self._transport is None:
            return
        if place == len(parts) - 1:
            self._finish(parts[place] + _LAST_CHUNK)
            return
        self._transport.write(_STREAM_HEAD + parts[0] if place == 0 else parts[place])
        self._timer = self._loop.call_later(self._pace, self._send_next, parts, place + 1)

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
