"""What a key looks like, how it is kept, and where a call carries it.

    sk-hg-<12 characters by which the row is found><32 random characters>

Of the whole only the SHA-256 is kept. A key has 190 random bits, so that a slow hash would protect nothing.
"""

import base64
import binascii
import re
import secrets
import string
from hashlib import sha256
from typing import Literal, NamedTuple

Kind = Literal["private", "public"]

PREFIXES: dict[Kind, str] = {"private": "sk-hg-", "public": "pk-hg-"}
KINDS: dict[str, Kind] = {prefix: kind for kind, prefix in PREFIXES.items()}
PREFIX_LENGTH = 6
LOOKUP_LENGTH = 12
RANDOM_LENGTH = 32
ALPHABET = string.ascii_letters + string.digits
# The operator's own key may be longer and hold what URL-safe Base64 holds.
FORM = re.compile(r"(sk-hg-|pk-hg-)([A-Za-z0-9]{12})[A-Za-z0-9_-]{20,256}")


class Credential(NamedTuple):
    """What is kept of a key. None of it is secret, but for whoever could invert SHA-256."""

    kind: Kind
    lookup: str
    """The part by which the row is found."""
    hash: bytes
    """SHA-256 of the whole, 32 bytes."""
    masked: str
    """As it is listed: "sk-hg-...1a2b"."""


def new_secret(kind: Kind) -> str:
    """A new key; it is told once and not kept."""
    return PREFIXES[kind] + "".join(secrets.choice(ALPHABET) for _ in range(LOOKUP_LENGTH + RANDOM_LENGTH))


def credential_of(secret: str) -> Credential | None:
    """What is kept of a key; None where the text is no key of Headgate's."""
    match = FORM.fullmatch(secret)
    if match is None:
        return None
    return Credential(KINDS[match[1]], match[2], digest(secret), f"{match[1]}...{secret[-4:]}")


def digest(secret: str) -> bytes:
    """The SHA-256 of a key, 32 bytes."""
    return sha256(secret.encode()).digest()


def carried(authorization: str) -> str:
    """The key in a value of `authorization`: a Bearer token, or the password of Basic (RFC 7617). Empty: none."""
    scheme, _, rest = authorization.strip().partition(" ")
    rest = rest.strip()
    if scheme.lower() == "bearer":
        return rest
    if scheme.lower() != "basic":
        return ""
    try:
        pair = base64.b64decode(rest, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return pair.partition(":")[2]
