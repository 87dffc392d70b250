"""The bytes of heads: what a request's target means, and how an answer begins."""

from http import HTTPStatus
from urllib.parse import unquote

import httptools
import orjson

from rest_bridge.connection import Headers

STATUS_LINES = {status.value: b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

SENTENCES = {
    400: "The request is not valid HTTP/1.1.",
    408: "The request's head did not arrive in time.",
    414: "The request's target is too long.",
    429: "There are too many connections from this address, or too many requests on one of them.",
    431: "The request's head is too large.",
    500: "Headgate failed; the log tells why.",
}
"""What the server itself says with a status."""


def target(url: bytes) -> tuple[str, bytes, bytes]:
    """The path of a request's target, decoded and as it came, and the query; raises ValueError for what is none."""
    if url.startswith(b"/") and url.find(b"#") < 0:
        raw_path, _, query = url.partition(b"?")
    else:
        parsed = httptools.parse_url(url)
        raw_path, query = parsed.path or b"", parsed.query or b""
    path = raw_path.decode("ascii")
    return unquote(path) if "%" in path else path, raw_path, query


def header_lines(headers: Headers) -> bytes:
    """Header fields as they are sent; raises ValueError for one that would be more than a field."""
    text = b"".join([b"%b: %b\r\n" % field for field in headers])
    if text.count(b"\n") != len(headers) or text.count(b"\r") != len(headers) or 0 in text:
        raise ValueError("a header field has a line break in it")
    return text


def status_line(status: int) -> bytes:
    """The first line of an answer."""
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def answer_head(status: int, *lines: bytes) -> bytes:
    """The head of an answer with these header lines."""
    return b"".join((status_line(status), *lines, b"\r\n"))


def own_answer(status: int) -> bytes:
    """A whole answer of the server's own, the last on its connection."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    error = {"message": SENTENCES[status], "type": kind, "param": None, "code": None}
    body = orjson.dumps({"error": error})
    fields = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"connection", b"close"),
    ]
    return answer_head(status, header_lines(fields)) + body
