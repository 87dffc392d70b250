"""The head of a call: what its header fields say, or what is wrong with them."""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from grpc import StatusCode

from gateway_core.grpc_server.hpack_table import Field
from gateway_core.grpc_server.method import Method, Methods
from gateway_core.inprocess.metadata import Metadatum

PSEUDO = frozenset({":method", ":scheme", ":path", ":authority"})
NEEDED = frozenset({":method", ":scheme", ":path"})
# RFC 9113, 8.2.2.
OF_CONNECTIONS = frozenset({"connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"})
# What gRPC itself says to the server: no metadata (gRPC over HTTP/2, "Requests").
OWN = frozenset({"te", "content-type", "content-length", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding"})

NAME = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
# RFC 9113, 8.2.1.
ILLEGAL_IN_VALUE = re.compile(r"[\0\r\n]|^[ \t]|[ \t]$")
# What gRPC's own names for values are (ASCII-Value), and what proxies hand on beside: a tab, and octets beyond ASCII.
UNSPEAKABLE = re.compile(r"[\x01-\x08\x0b-\x1f\x7f]")
DIGITS_AT_MOST = 18
"""Of a length."""
PIECES_AT_MOST = 100
"""Of binary values that stand together, with commas between them, in all fields of a request."""
NAME_TOLD_AT_MOST = 100
"""Characters of a name in an answer."""
TIMEOUT = re.compile(r"([0-9]{1,8})([HMSmun])")
SECONDS_AT_MOST = 366 * 86400.0
"""Longer timeouts are shortened: no timer need bear eleven thousand years."""
UNIT_SECONDS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


class Malformed(ValueError):
    """The fields break a rule of HTTP/2."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a call begins with; the same for all calls that say the same."""

    path: str
    method: Method | None
    """None: there is no such method."""
    metadata: tuple[Metadatum, ...]
    timeout: float | None
    """Seconds."""
    encoding: str
    """How compressed messages are compressed."""
    content_length: int | None
    refusal: "Refusal | None" = None
    """What it is answered with at once."""

    @property
    def takes_stream(self) -> bool:
        """Whether the servicer reads the request itself."""
        return self.method is not None and self.method.takes_stream


class Refusal(NamedTuple):
    """An answer without a servicer."""

    code: StatusCode
    words: str
    http_status: int = 200
    """Other than 200: the request is no call of gRPC."""


def head(fields: Sequence[Field], methods: Methods) -> Head:
    """What the fields of a request say; raises Malformed."""
    pseudo = checked(fields)
    own = {name: value for name, value in fields if name in OWN}
    method = methods.find(pseudo[":path"])
    if sum(value.count(",") for name, value in fields if name.endswith("-bin")) >= PIECES_AT_MOST:
        return TOO_LARGE
    metadata: list[Metadatum] = []
    refusal = refused(pseudo[":method"], own)
    for name, value in fields:
        if name not in OWN and name[0] != ":":
            try:
                metadata.extend(metadata_of(name, value))
            except ValueError:
                told = f"The value of the metadata {name[:NAME_TOLD_AT_MOST]} cannot be read."
                refusal = refusal or Refusal(StatusCode.INTERNAL, told)
    if method is None:
        refusal = refusal or Refusal(StatusCode.UNIMPLEMENTED, "Method not found!")
    length = own.get("content-length")
    return Head(
        path=pseudo[":path"],
        method=method,
        metadata=tuple(metadata),
        timeout=seconds(own["grpc-timeout"]) if "grpc-timeout" in own else None,
        encoding=own.get("grpc-encoding", "identity"),
        content_length=None if length is None else int(length),
        refusal=refusal,
    )


def refused(verb: str, own: Mapping[str, str]) -> Refusal | None:
    """What a request is answered with that is no call (gRPC over HTTP/2, "Requests"). None: it may be one."""
    if verb != "POST":
        return Refusal(StatusCode.INTERNAL, "This port speaks gRPC, whose requests are POST.", 405)
    content_type = own.get("content-type", "")
    if content_type != "application/grpc" and not content_type.startswith(("application/grpc+", "application/grpc;")):
        return Refusal(StatusCode.INTERNAL, "This port speaks gRPC, whose content-type is application/grpc.", 415)
    if "grpc-timeout" in own and seconds(own["grpc-timeout"]) is None:
        return Refusal(StatusCode.INTERNAL, "The header field grpc-timeout cannot be read.")
    return None


def checked(fields: Sequence[Field]) -> dict[str, str]:
    """The pseudo-header fields of a request (RFC 9113, 8.3.1); raises Malformed."""
    pseudo: dict[str, str] = {}
    is_over = False
    for name, value in fields:
        if name[:1] == ":":
            if is_over or name not in PSEUDO or name in pseudo:
                raise Malformed(name)
            pseudo[name] = value
        else:
            is_over = True
            check_field(name, value)
    if not pseudo.keys() >= NEEDED or not pseudo[":path"]:
        raise Malformed("a pseudo-header field is missing")
    return pseudo


def check_field(name: str, value: str) -> None:
    """Raises Malformed for a field that is none (RFC 9113, 8.2)."""
    is_legal = NAME.fullmatch(name) and name not in OF_CONNECTIONS and not ILLEGAL_IN_VALUE.search(value)
    if not is_legal or (name == "te" and value != "trailers") or (name == "content-length" and not is_length(value)):
        raise Malformed(name)


def is_length(value: str) -> bool:
    """Whether a value tells how long something is."""
    return value.isascii() and value.isdecimal() and len(value) <= DIGITS_AT_MOST


def check_trailers(fields: Sequence[Field]) -> None:
    """Raises Malformed for fields that cannot come behind a request."""
    for name, value in fields:
        check_field(name, value)  # which takes none of the pseudo-header fields


def seconds(text: str) -> float | None:
    """What grpc-timeout says. None: nothing that can be understood."""
    match = TIMEOUT.fullmatch(text)
    return None if match is None else min(int(match[1]) * UNIT_SECONDS[match[2]], SECONDS_AT_MOST)


def metadata_of(name: str, value: str) -> list[Metadatum]:
    """One field as metadata; of binary values several may stand in one. Raises ValueError for what cannot be read."""
    if name.endswith("-bin"):
        return [(name, unpadded(each.strip())) for each in value.split(",")]
    if value.isascii() and value.isprintable():
        return [(name, value)]
    if UNSPEAKABLE.search(value):
        raise ValueError(name)
    try:
        return [(name, value.encode("latin-1").decode())]
    except UnicodeDecodeError:
        return [(name, value)]  # as Latin-1, which any octets are


def unpadded(text: str) -> bytes:
    """The octets of Base64, with padding or without; raises ValueError."""
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError(text) from error


TOO_LARGE = Head(
    path="",
    method=None,
    metadata=(),
    timeout=None,
    encoding="identity",
    content_length=None,
    refusal=Refusal(StatusCode.RESOURCE_EXHAUSTED, "The metadata are larger than allowed."),
)
"""Stands for a head that is not read any further."""
