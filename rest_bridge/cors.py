"""Which web pages may call the bridge and read its answers (the Fetch standard, "CORS protocol").

Credentials are never allowed: a key is in a header that the page itself sets. Nothing is said where no origin is.
"""

import re
from collections.abc import Mapping, Sequence

from rest_bridge.connection import Headers

EVERYBODY = "*"
NAMES = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z, -]{1,4096}")
"""Names of header fields, as a browser asks for them."""
KEPT_SECONDS = b"7200"
"""For how long a browser need not ask again; some keep it for less."""
VARIES = (b"vary", b"origin")
READABLE = (b"access-control-expose-headers", b"*")


def answer_fields(allowed: frozenset[str], headers: Mapping[bytes, bytes]) -> Headers:
    """What an answer says to the browser; takes the origins that are allowed, at least one, and a request's fields."""
    if EVERYBODY in allowed:
        return (b"access-control-allow-origin", b"*"), READABLE
    origin = headers.get(b"origin", b"")
    if origin.decode("latin-1") in allowed:
        return (b"access-control-allow-origin", origin), READABLE, VARIES
    return (VARIES,)


def preflight_fields(allowed: frozenset[str], headers: Mapping[bytes, bytes], methods: Sequence[str]) -> Headers | None:
    """What answers a browser that asks before it calls. None: it does not ask, or the page may not call.

    An answer has those of `answer_fields` beside them. Takes the methods of the path.
    """
    origin = headers.get(b"origin")
    if not origin or b"access-control-request-method" not in headers:
        return None
    if EVERYBODY not in allowed and origin.decode("latin-1") not in allowed:
        return None
    fields = [
        (b"access-control-allow-methods", ", ".join(methods).encode("ascii")),
        (b"access-control-max-age", KEPT_SECONDS),
    ]
    # They are named one by one: "*" does not mean the authorization.
    names = headers.get(b"access-control-request-headers", b"")
    if NAMES.fullmatch(names):
        fields.append((b"access-control-allow-headers", names))
    return fields
