"""One HTTP request and its answer, below every dialect: body, deadline, metadata, the caller's leaving."""

import asyncio
import math
import re
from collections.abc import Coroutine
from typing import Any
from urllib.parse import parse_qsl

import orjson

from rest_bridge.body import InvalidBody
from rest_bridge.caller import forwarded_caller
from rest_bridge.certificate import CERTIFICATE, FORWARDED, forwarded
from rest_bridge.config import BridgeConfig
from rest_bridge.connection import (
    CONNECTION,
    NO_BODY,
    AsgiConnection,
    Connection,
    Headers,
    Lines,
    Receive,
    Scope,
    Send,
)
from rest_bridge.cors import answer_fields
from rest_bridge.errors import Failure, Refused
from rest_bridge.head import header_lines
from rest_bridge.request_id import new_request_id
from rest_bridge.texts import Texts
from rest_bridge.told import TOLD_BEHIND, Metadata, Told

JSON: Headers = ((b"content-type", b"application/json"),)
JSON_LINE = header_lines(JSON)
TRAILER = header_lines([(b"trailer", ", ".join(TOLD_BEHIND).encode("ascii"))])
REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
TIMEOUT_AT_MOST = 7 * 86400.0
TAG = "x-headgate-tag"
# HTTP field → metadata key, and the longest value that is passed on. gRPC keeps the key user-agent to itself.
PASSED_ON = {
    b"authorization": ("authorization", 8192),
    b"user-agent": ("x-headgate-user-agent", 512),
    b"traceparent": ("traceparent", 128),
    b"tracestate": ("tracestate", 1024),
    b"x-headgate-session": ("x-headgate-session", 256),
    b"x-headgate-region": ("x-headgate-region", 64),
    b"x-headgate-target-tag": ("x-headgate-target-tag", 64),
    b"x-headgate-detach": ("x-headgate-detach", 64),
    b"x-headgate-tag": (TAG, 64),
}
PASSED_ON_NAMES = frozenset(PASSED_ON)


ASKED_LATER = (b"te", b"x-forwarded-for")
"""Of the headers of a request whose answer streams: for its end, and for the log."""


class Exchange:
    """One request: what came, and the one way to answer it."""

    __slots__ = (
        "_body_left",
        "_connection",
        "_ended",
        "config",
        "deadline",
        "dialect",
        "headers",
        "left",
        "method",
        "request_id",
        "scope",
        "status",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, config: BridgeConfig, dialect: str) -> None:
        """Takes the three of an ASGI call, made in the task that will do the work."""
        self._connection: Connection = scope.get(CONNECTION) or AsgiConnection(scope, receive, send)
        self.scope = scope
        self.method: str = scope["method"]
        self.config = config
        self.dialect = dialect
        self.headers = self._connection.headers
        """Header fields, names in lower case; of several with one name the last."""
        self.status = 0
        """The HTTP status of the answer; 0 before it starts, 499 where the caller left before."""
        self.left = False
        """Whether the caller left before the answer was complete."""
        given = self.headers.get(b"x-request-id")
        self.request_id = new_request_id() if given is None or not is_request_id(given) else given.decode("ascii")
        """The caller's x-request-id, else a new one; in the answer's x-request-id too."""
        self.deadline: float | None = None
        """When the caller stops waiting, on the loop's clock; read from the header by `start`."""
        self._body_left = self.method not in NO_BODY
        self._ended = False

    @property
    def where(self) -> dict[str, object]:
        """What the log says of the request."""
        return {
            "dialect": self.dialect,
            "method": self.method[:20],
            "path": str(self.scope.get("path", ""))[:200],
            "request_id": self.request_id,
            "client": self.client,
        }

    @property
    def reading(self) -> bool:
        """Whether the body is not there yet, so that the core cannot know of the request."""
        return self._body_left

    @property
    def path_params(self) -> dict[str, str]:
        """What the route's pattern found in the path."""
        return self.scope.get("path_params") or {}

    @property
    def started(self) -> bool:
        """Whether the status has been sent, so that a failure can have none of its own."""
        return self.status != 0

    def ask_no_more(self) -> None:
        """Has the connection closed behind the answer, whatever else was asked on it already."""
        self._connection.keep_alive = False

    @property
    def ended(self) -> bool:
        """Whether the last of the answer has been sent, or waits for the client to read."""
        return self._ended

    # ---- the request ----

    def start(self) -> None:
        """Begins to watch for the caller's leaving, which cancels this task. Raises InvalidBody for a bad header."""
        self._connection.watch(self._leave)
        given = self.headers.get(b"x-request-timeout")
        if given is not None:
            self.deadline = now() + _seconds(given)
        given = self.headers.get(b"x-request-id")
        if given is not None and not is_request_id(given):
            raise InvalidBody("x-request-id must be 1 to 128 printable ASCII characters.", "x-request-id")

    async def body_json(self) -> dict[str, Any]:
        """The body, which must be a JSON object; its Content-Type does not matter.

        Raises InvalidBody for what is not one, Refused for one that is compressed, too large or too slow.
        """
        return json_object(await self.body(), self.config.json_depth)

    def arrived_body(self) -> bytes | None:
        """The body's bytes where all of them are there; None: `body` has to wait for some. Raises as `body` does."""
        encoding = self.headers.get(b"content-encoding")
        if encoding and encoding.lower() != b"identity":
            raise Refused(Failure.unsupported_encoding())
        connection = self._connection
        return None if connection.more_body else self._whole(connection.take())

    async def body(self) -> bytes:
        """The body's bytes; raises Refused for one that is compressed, too large or too slow."""
        body = self.arrived_body()
        if body is not None:
            return body
        limit = self.config.request_body_bytes
        length = self.headers.get(b"content-length", b"")
        if length.isdigit() and (len(length) > 18 or int(length) > limit):
            raise Refused(Failure.too_large(limit))
        try:
            return self._whole(await self._rest(self._connection.take(), limit))
        except TimeoutError:
            late = self.deadline is not None and now() >= self.deadline
            raise Refused(Failure.deadline_exceeded() if late else Failure.slow_body()) from None

    def _whole(self, body: bytes) -> bytes:
        """A body that is complete; raises Refused for one that is too large."""
        limit = self.config.request_body_bytes
        if len(body) > limit:
            raise Refused(Failure.too_large(limit))
        self._body_left = False
        return body

    async def _rest(self, begun: bytes, limit: int) -> bytes:
        """The body that began so, whole; or enough of it to be over the limit."""
        began, idle = now(), self.config.body_idle_seconds
        end = began + self.config.body_seconds
        if self.deadline is not None:
            end = min(end, self.deadline)
        pieces = [begun]
        size = len(begun)
        async with asyncio.timeout_at(min(began + idle, end)) as timer:
            while self._connection.more_body and size <= limit:
                piece = await self._connection.receive()
                if piece is None:
                    self.left = True
                    raise Refused(Failure.client_left())
                if piece:
                    pieces.append(piece)
                    size += len(piece)
                    timer.reschedule(min(now() + idle, end))
        return b"".join(pieces)

    def timeout(self) -> float | None:
        """Seconds left for the RPC (None: as long as it takes), of x-request-timeout; raises Refused where none is."""
        if self.deadline is None:
            return None
        left = self.deadline - now()
        if left <= 0:
            raise Refused(Failure.deadline_exceeded())
        return left

    def metadata(self) -> Texts:
        """The RPC's metadata: who calls, through which dialect, under which id; printable ASCII, of bounded length.

        Raises InvalidBody for a tag that is none.
        """
        keys, values = ["x-headgate-dialect", "x-request-id"], [self.dialect, self.request_id]
        headers = self.headers
        for name in PASSED_ON_NAMES.intersection(headers):
            key, longest = PASSED_ON[name]
            value = headers[name]
            if value and len(value) <= longest and value.isascii() and (text := value.decode()).isprintable():
                keys.append(key)
                values.append(text)
            elif value and key is TAG:
                raise InvalidBody(f"{TAG} must be 1 to 64 printable ASCII characters.", TAG)
        if b"authorization" not in headers:
            key_given = headers.get(b"x-api-key") or headers.get(b"api-key") or self._key_in_query()
            if key_given and len(key_given) <= 8192 and (text := printable(key_given)):
                keys.append("authorization")
                values.append("Bearer " + text)
        client = self.client
        if client:
            keys.append("x-headgate-client")
            values.append(client)
        certificate = self.scope.get(CERTIFICATE)
        if certificate and (shown := forwarded(certificate, headers, self.config.certificate_proxies)):
            keys.append(FORWARDED)
            values.append(shown)
        return Texts(tuple(keys), values)

    @property
    def has_key(self) -> bool:
        """Whether a key came along, in any way in which one may."""
        given = (b"authorization", b"x-api-key", b"api-key")
        return any(self.headers.get(name) for name in given) or bool(self._key_in_query())

    def _key_in_query(self) -> bytes:
        """The last `?api-key=`; empty where there is none."""
        query: bytes = self.scope.get("query_string", b"")
        if b"api-key=" not in query:
            return b""
        given = [value for name, value in parse_qsl(query) if name == b"api-key"]
        return given[-1] if given else b""

    @property
    def client(self) -> str:
        """The caller's address: the connection's, or what trusted proxies say (X-Forwarded-For); "" if unknown."""
        known = self._connection.client
        if known is not None:
            return known
        peer: tuple[str, int] | None = self.scope.get("client")
        forwarded = self.headers.get(b"x-forwarded-for")
        return forwarded_caller(peer[0] if peer else "", forwarded, self.config.trusted_proxies)

    # ---- the answer ----

    def respond(
        self, status: int, body: bytes, headers: Headers = JSON, told: Lines = b""
    ) -> Coroutine[Any, Any, None]:
        """The sending of the whole answer, with header fields and the lines of what an RPC told; to be awaited."""
        self.status = status
        # An answer without content has no length either (RFC 9110, 8.6).
        length = "" if status == 204 else f"content-length: {len(body)}\r\n"
        if self._body_left and (status == 408 or b"expect" in self.headers):
            self._connection.keep_alive = False  # what comes next on it could be body or request
        self._ended = True
        lines = self._lines(headers, told, length)
        return self._connection.respond(status, lines, b"" if self.method == "HEAD" else body)

    async def start_stream(self, status: int, headers: Headers, told: Lines = b"") -> None:
        """Sends status, header fields and what an RPC told, of an answer in pieces."""
        lines = self._lines(headers, told, "")
        if self.takes_trailers:
            lines += TRAILER
        # A stream may be open for hours, and thousands of them: of the request only what is asked for later is kept.
        self.headers = {name: self.headers[name] for name in ASKED_LATER if name in self.headers}
        self._connection.headers = self.headers
        self.scope["headers"] = ()
        await self._connection.start(status, lines)
        self.status = status

    def _lines(self, headers: Headers, told: Lines, length: str) -> Lines:
        """All header lines; raises ValueError for a field that would be more than one."""
        given = JSON_LINE if headers is JSON else header_lines(headers)
        lines = given + told + f"{length}x-request-id: {self.request_id}\r\n".encode()
        if self.config.allowed_origins:
            lines += header_lines(answer_fields(self.config.allowed_origins, self.headers))
        return lines

    @property
    def takes_trailers(self) -> bool:
        """Whether the caller reads fields behind an answer (RFC 9110, 10.1.4)."""
        return b"te" in self.headers and b"trailers" in self.headers[b"te"].lower()

    def tell_behind(self, metadata: Metadata | None) -> None:
        """Has fields behind the answer tell what an RPC told at its end: tokens and cost, where the caller reads them.

        It is called before `end`.
        """
        if metadata is not None and self.takes_trailers:
            self._connection.trailers = Told(metadata).lines_behind()

    async def send(self, data: bytes) -> None:
        """Sends a piece, unless it is empty; waits while the client reads more slowly than it is written to."""
        if data and self.method != "HEAD":
            await self._connection.send(data, more=True)

    async def end(self, data: bytes = b"") -> None:
        """Sends the last piece."""
        self._ended = True
        await self._connection.send(b"" if self.method == "HEAD" else data, more=False)

    # ---- the caller's leaving ----

    def close(self) -> None:
        """Ends the watch."""
        self._ended = True
        self._connection.watch(None)

    def _leave(self) -> None:
        if not self._ended and not self.left:
            self.left = True
            if self._connection.task is not None:
                self._connection.task.cancel()


def now() -> float:
    """The time on the loop's clock."""
    return asyncio.get_running_loop().time()


def is_request_id(given: bytes) -> bool:
    """Whether a caller's id is fit for a header and a log."""
    return REQUEST_ID.fullmatch(given) is not None


def printable(value: bytes) -> str:
    """A header's value as metadata can carry it, in printable ASCII; "" where it cannot."""
    if not value.isascii():
        return ""
    text = value.decode("ascii")
    return text if text.isprintable() else ""


def json_object(body: bytes, depth: int) -> dict[str, Any]:
    """The JSON object that a body is; raises InvalidBody with the place of what is wrong."""
    document = decoded_object(body)
    check_depth(body, document, depth)
    return document


def decoded_object(body: bytes) -> dict[str, Any]:
    """The JSON object that a body is, however deep it nests; raises InvalidBody with the place of what is wrong."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if not body.strip():
            raise InvalidBody("The body is empty; it must be a JSON object.") from None
        place = f"line {error.lineno}, column {error.colno}"
        raise InvalidBody(f"The body is not valid JSON: {error.msg} ({place}).") from None
    if type(document) is not dict:
        raise InvalidBody("The body must be a JSON object.")
    return document


def check_depth(body: bytes, document: dict[str, Any], depth: int) -> None:
    """Raises InvalidBody where arrays and objects of a body nest deeper; takes the body, and what it says."""
    if body.count(b"{") + body.count(b"[") > depth and not _is_within(document, depth):
        raise InvalidBody(f"The body nests deeper than {depth} arrays and objects.")


def _is_within(document: dict[str, Any], depth: int) -> bool:
    """Whether arrays and objects nest at most `depth` deep."""
    level: list[Any] = [document]
    for _ in range(depth):
        level = [
            child
            for node in level
            for child in (node.values() if type(node) is dict else node)
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return True
    return False


def _seconds(given: bytes) -> float:
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise InvalidBody("x-request-timeout must be a number of seconds above 0.", "x-request-timeout")
    return min(seconds, TIMEOUT_AT_MOST)
