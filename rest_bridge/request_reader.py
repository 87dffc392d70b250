"""Reads HTTP/1.1 requests from the bytes of a connection, within the limits on heads."""

import re
from functools import lru_cache
from typing import Any, Protocol

import httptools

from rest_bridge.connection import Fields, Scope
from rest_bridge.head import target

# No protocol is upgraded to here. The parser takes a request that offers it (Java's HTTP client offers h2c with every
# one) for the last HTTP/1.1 on the connection and loses its body; so the field gets a name that means nothing.
UPGRADE = re.compile(rb"\r\nupgrade[ \t]*:", re.IGNORECASE)
NO_UPGRADE = b"\r\nx-ignored-upgrade:"
HEAD_END = b"\r\n\r\n"
TAIL_BYTES = len(HEAD_END) - 1

SHORT = 128
"""Bytes of a target."""
SCOPE: dict[str, Any] = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "scheme": "http",
    "root_path": "",
    "server": None,
}
"""What the ASGI scopes of all requests have."""


class Sink(Protocol):
    """What hears of requests. Each may raise Unfit."""

    def request_began(self, scope: Scope, headers: Fields, keep_alive: bool) -> None:
        """A head is complete; the ASGI scope is without client."""
        ...

    def body_came(self, piece: bytes) -> None:
        """A piece of that request's body."""
        ...

    def request_ended(self) -> None:
        """That request is complete."""
        ...


class Unfit(Exception):
    """What came cannot be served; `status` says why."""

    def __init__(self, status: int, caller: str = "") -> None:
        """Takes the HTTP status to answer with, and whose fault it is where it is not the peer's."""
        super().__init__(status)
        self.status = status
        self.caller = caller


class Offered(Exception):
    """The head that is complete offers another protocol."""


class RequestReader:
    """Parses what it is fed, and tells the sink at once."""

    def __init__(self, sink: Sink, header_bytes: int) -> None:
        """Takes who hears, and the bytes that a head may have."""
        self.in_head = True
        """Whether a head is what comes next, or goes on."""
        self.quiet_bytes = 0
        """Bytes since there was something to tell: an unfinished head, or trailers."""
        self._sink = sink
        self._header_bytes = header_bytes
        self._parser = self._new_parser()
        self._url = b""
        self._headers: Fields = {}
        self._repeated_bytes = 0
        """Of fields in whose place others with their names came."""
        self._last_url: bytes | None = None
        self._last_scope = SCOPE
        """What the short target that was read last tells: most requests on a connection have the same."""
        self._told = False
        self._is_begun = False
        """Whether a request is being read."""
        self._tail = b""
        """The last octets of a head that goes on in what comes next: its end may be in both."""
        self._can_strike = False
        """Whether what is fed begins with a head, from which an offer can be struck still."""
        self._head_bytes_at_most = 0

    def feed(self, data: bytes) -> bool:
        """Reads on; returns whether the connection may go on after the requests that began.

        Raises Unfit: 400 for what is no HTTP, 414 or 431 for a head that is too large, and what the sink raises.
        """
        if self._is_begun and self.in_head:  # a head in pieces: what it offers is known too late
            data = without_offer(data, self._tail)
        size = len(data)
        self._told = False
        self._can_strike = not self._is_begun
        self._head_bytes_at_most = self.quiet_bytes + size
        try:
            self._feed(data)
        except httptools.HttpParserUpgrade:
            # An upgrade that was offered in pieces, or a CONNECT: where the body would begin is not known.
            return False
        except httptools.HttpParserError as error:
            raise _unfit(error.__context__) from None  # no name for it here: its traceback knows this frame
        if self._is_begun and self.in_head:
            self._tail = (self._tail + data)[-TAIL_BYTES:]
        if self._told:
            self.quiet_bytes = 0
        else:
            self.quiet_bytes += size
            if self.quiet_bytes > self._header_bytes:
                raise Unfit(self._head_status() if self.in_head else 400)
        return True

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            if not isinstance(error.__context__, Offered):
                raise
            self._read_again(without_offer(data))
        else:
            if self._can_strike and self._is_begun and self.in_head and not self._told:
                # The rest of the head comes later.
                struck = without_offer(data)
                if struck != data:
                    self._read_again(struck)

    def _read_again(self, data: bytes) -> None:
        """Reads anew what nothing was told of yet, as if nothing were offered in it."""
        self._forget()
        self._can_strike = self._is_begun = False
        self._parser = self._new_parser()
        self._parser.feed_data(data)

    def _new_parser(self) -> Any:
        parser = httptools.HttpRequestParser(self)
        # What follows a request that asks to close is not served; it must not keep that request from its answer.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    def close(self) -> None:
        """Reads no more, and lets go of the parser and the sink, which hold this object too."""
        self._parser = None
        del self._sink

    # ---- the parser's callbacks ----

    def on_message_begin(self) -> None:
        """Hears that a head begins."""
        self._is_begun = True
        self._tail = b""

    def on_url(self, url: bytes) -> None:
        """Keeps a piece of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keeps a field, of several with one name the last."""
        name = name.lower()
        headers = self._headers
        if name in headers:
            self._repeated_bytes += len(name) + len(headers[name]) + 4
        headers[name] = value

    def on_headers_complete(self) -> None:
        """Tells of a request."""
        parser = self._parser
        if self._can_strike and not self._told and parser.should_upgrade() and parser.get_method() != b"CONNECT":
            raise Offered
        self._told = True
        self.in_head = False
        url, headers = self._url, self._headers
        if self._head_bytes_at_most > self._header_bytes:
            size = len(url) + sum([len(name) + len(value) + 4 for name, value in headers.items()])
            if size + self._repeated_bytes > self._header_bytes:
                raise Unfit(self._head_status())
        self._url, self._headers, self._repeated_bytes = b"", {}, 0
        scope = (self._last_scope if url == self._last_url else self._told_by(url)).copy()
        keep_alive = parser.should_keep_alive()
        # Where nothing is said of it, only HTTP/1.1 keeps a connection. The parser takes its time to write a version.
        is_silent = b"connection" not in headers and b"proxy-connection" not in headers
        version = "1.1" if keep_alive and is_silent else parser.get_http_version()
        scope["http_version"] = version
        scope["method"] = parser.get_method().decode()
        scope["headers"] = headers.items()
        self._sink.request_began(scope, headers, keep_alive and version == "1.1")

    def _told_by(self, url: bytes) -> dict[str, Any]:
        """What a target tells of its request; raises ValueError for what is none."""
        if len(url) > SHORT:
            return _scope(url)
        self._last_scope = scope = _short_scope(url)
        self._last_url = url
        return scope

    def on_body(self, body: bytes) -> None:
        """Tells of a piece."""
        self._told = True
        self._sink.body_came(body)

    def on_message_complete(self) -> None:
        """Tells of the end."""
        self._told = True
        self.in_head = True
        self._is_begun = False
        if self._headers:  # trailers, which nobody reads
            self._forget()
        self._sink.request_ended()

    def _forget(self) -> None:
        """Lets go of what was read of a head."""
        self._url = b""
        self._headers = {}
        self._repeated_bytes = 0

    def _head_status(self) -> int:
        """The status for a head that is too large."""
        return 414 if len(self._url) > self._header_bytes // 2 else 431


def _unfit(cause: BaseException | None) -> Unfit:
    """What to raise for what a callback raised, if it was one."""
    return Unfit(cause.status, cause.caller) if isinstance(cause, Unfit) else Unfit(400)


def _scope(url: bytes) -> dict[str, Any]:
    path, raw_path, query = target(url)
    return {**SCOPE, "path": path, "raw_path": raw_path, "query_string": query}


_short_scope = lru_cache(256)(_scope)
"""Shared by connections: most requests go to few targets."""


def without_offer(data: bytes, tail: bytes = b"") -> bytes:
    """The bytes of a head, and of what is behind it, without the offer of another protocol.

    Takes the last octets of the same head that came before. What is behind the head stays as it is: it would no longer
    be as long as the head says, and its end be taken for another request.
    """
    head, end, rest = (tail + data).partition(HEAD_END)
    return (UPGRADE.sub(NO_UPGRADE, head) + end + rest)[len(tail) :]
