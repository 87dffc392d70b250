"""The heads of requests to one provider: all but the length of the body, made once for each path."""

import re
from collections.abc import Mapping

from gateway_core.upstream.encoding import ACCEPTED
from gateway_core.upstream.origin import Origin, Proxy

HEADERS = {
    "accept": "*/*",
    "accept-encoding": ACCEPTED,
    "content-type": "application/json",
    "user-agent": "headgate",
}

# Paths may name things: no more heads than this are kept.
HEADS_AT_MOST = 64

NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110, 5.6.2
TARGET = re.compile(r"[!-~]+")

# What tells where a request ends is not for the configuration to say.
FRAMING = frozenset({"content-length", "transfer-encoding"})


class Heads:
    """Request line and headers by method and path."""

    def __init__(
        self, origin: Origin, around: tuple[str, str], headers: Mapping[str, str], proxy: Proxy | None
    ) -> None:
        """Takes the headers of every request, checked; they replace those that are sent by default.

        Takes what stands before every path and after it too: the base URL's own path and query.
        """
        path, self._query = around
        self._host = origin.name
        self._headers = HEADERS | {name.lower(): value for name, value in headers.items()}
        self._base = path
        if proxy is not None and origin.scheme == "http":
            self._base = f"http://{origin.name}{path}"
            if proxy.authorization is not None:
                self._headers["proxy-authorization"] = proxy.authorization
        self._heads: dict[tuple[str, str], bytes] = {}

    def head(self, method: str, path: str, headers: Mapping[str, str] | None) -> bytes:
        """Ends where the length of the body follows; raises ValueError for what would break the request."""
        if headers:
            return self._head(method, path, self._headers | {name.lower(): value for name, value in headers.items()})
        head = self._heads.get((method, path))
        if head is None:
            if len(self._heads) >= HEADS_AT_MOST:
                self._heads.clear()
            head = self._heads[method, path] = self._head(method, path, self._headers)
        return head

    def _head(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        target = self._base + path + self._query
        if not TARGET.fullmatch(target) or not NAME.fullmatch(method):
            raise ValueError("the method or the path cannot be sent")
        fields = {"host": self._host, **headers}
        for name, value in fields.items():
            check(name, value)
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), ""]
        return "\r\n".join(lines).encode()


def check(name: str, value: str) -> None:
    """Raises ValueError where a header would break the request; the value is not shown."""
    if not NAME.fullmatch(name) or name.lower() in FRAMING:
        raise ValueError(f"the header {name!r} cannot be sent")
    if not value.isprintable():
        raise ValueError(f"the header {name} has a line break or a control character")
