"""Signatures of outbound webhooks: the receiver learns that Headgate sent them, and when."""

import hashlib
import hmac
import time

HEADER = "X-Headgate-Signature"
TOLERANCE_SECONDS = 300


def signature(secret: str, body: bytes, at: int | None = None) -> str:
    """The value of X-Headgate-Signature: "t=<seconds since 1970>,v1=<hex>"; the time is now where none is given.

    v1 is the HMAC-SHA256 of the time in decimal digits, a full stop and the body, under the account's hook secret.
    """
    at = int(time.time()) if at is None else at
    return f"t={at},v1={_code(secret, str(at), body)}"


def is_signed(secret: str, body: bytes, header: str, now: float | None = None) -> bool:
    """Whether a body was signed with the secret at most TOLERANCE_SECONDS ago; several v1 may stand in the header."""
    parts = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in parts if name == "t"]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdigit() and len(times[0]) <= 12):
        return False
    now = time.time() if now is None else now
    expected = _code(secret, times[0], body).encode()
    given = [value.encode() for name, _, value in parts if name == "v1"]
    fits = [hmac.compare_digest(expected, value) for value in given]
    return abs(now - int(times[0])) <= TOLERANCE_SECONDS and any(fits)


def _code(secret: str, at: str, body: bytes) -> str:
    return hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
