"""Which URLs webhooks may be posted to (pure): public ones over TLS, and others where the operator names networks."""

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from gateway_core.errors import InvalidRequest
from gateway_core.upstream.origin import VISIBLE, Origin
from gateway_core.upstream.reach import Network, Reach

URL_AT_MOST = 2048


class Place(NamedTuple):
    """A URL, as a request needs it."""

    server: str
    """Scheme, host and port."""
    target: str
    """Path and query."""


def place(url: str, networks: Sequence[Network]) -> Place:
    """Where a URL leads; raises ValueError, whose text continues "the URL …", where nothing may be posted there.

    A host whose name is no address is judged by its addresses when it is dialled, each time anew.
    """
    if len(url) > URL_AT_MOST or not url.isprintable() or " " in url:
        raise ValueError(f"must be a URL of at most {URL_AT_MOST} characters, without spaces")
    try:
        parts = urlsplit(url)
        origin = Origin.of(url)
        is_dialled = parts.port != 0
    except ValueError:  # UnicodeError is one
        raise ValueError("must be a URL with a host") from None
    if parts.scheme != "https" and not (parts.scheme == "http" and networks):
        raise ValueError('must begin with "https://"')
    if not is_dialled:
        raise ValueError("must be a URL with a host, and no port 0")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError('must have no user name, no password and no "#"')
    if Reach(networks).refuses(origin.host):
        raise ValueError("has an address that is not public")
    query = f"?{quote(parts.query, safe=VISIBLE)}" if parts.query else ""
    return Place(f"{parts.scheme}://{origin.authority}", (quote(parts.path, safe=VISIBLE) or "/") + query)


def checked(url: str, networks: Sequence[Network], path: str) -> str | None:
    """The URL; None where it is empty. Raises InvalidRequest, which names the field."""
    if not url:
        return None
    try:
        place(url, networks)
    except ValueError as error:
        raise InvalidRequest(f"{path} {error}.", param=path) from None
    return url
