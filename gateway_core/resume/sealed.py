"""What of a stream is kept outside of its process: sealed, so that who has the server does not have the answers.

The key of a stream's seal is made of the secret key of the gateway and of the stream's id, whose last part the server
does not have. The caller has it, and the log of whatever sees the path by which a stream is continued over REST. The
name under which a stream is kept is a hash of its id.
"""

import base64
import hashlib
import json
import secrets
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway_core.storage.secret_box import SecretBox

NONCE_BYTES = 12
CHUNKS, NEWS = b"c", b"n"
LENGTH = struct.Struct(">I")
FIRST = struct.Struct(">Q")


class Unreadable(Exception):
    """Something that was not sealed for this stream by a gateway with this secret key."""


class Chunks(NamedTuple):
    """Chunks in a row, serialized."""

    first: int
    """Position of the first."""
    chunks: Sequence[bytes]


class News(NamedTuple):
    """What happens to a stream beside its chunks."""

    listener: str = ""
    """Who has it now, or may not have it. Empty: a caller of its owner's, where it is not over."""
    status: bytes = b""
    """Why the listener may not have it, or how the stream has ended: a google.rpc.Status. Empty: it may; it is well."""
    is_over: bool = False
    trailing: tuple[tuple[str, str], ...] = ()
    """What is told at its end."""


class Seal:
    """Of one stream."""

    def __init__(self, box: SecretBox, identity: str) -> None:
        """Takes the gateway's secret, and the stream's id."""
        self._cipher: AESGCM = box.cipher(f"headgate stream {identity}")
        self.key = key_of(identity)
        """What it is kept as."""

    def seal(self, data: bytes, of: bytes) -> bytes:
        """Data, sealed as something of the stream's."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, data, of)

    def open(self, sealed: bytes, of: bytes) -> bytes:
        """Data that were sealed as that; raises Unreadable."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], of)
        except (InvalidTag, ValueError):
            raise Unreadable from None

    def chunks(self, first: int, chunks: Sequence[bytes]) -> bytes:
        """An entry of chunks."""
        parts = [FIRST.pack(first)]
        for chunk in chunks:
            parts += [LENGTH.pack(len(chunk)), chunk]
        return CHUNKS + self.seal(b"".join(parts), CHUNKS)

    def news(self, news: News) -> bytes:
        """An entry of news."""
        return NEWS + self.sealed_document({**news._asdict(), "status": text_of(news.status)}, NEWS)

    def entry(self, data: bytes) -> Chunks | News:
        """What an entry is; raises Unreadable."""
        kind, sealed = data[:1], data[1:]
        if kind == NEWS:
            document = self.document(sealed, NEWS)
            document["status"] = bytes_of(document["status"])
            document["trailing"] = tuple((key, value) for key, value in document["trailing"])
            return News(**document)
        if kind != CHUNKS:
            raise Unreadable
        opened = self.open(sealed, CHUNKS)
        (first,) = FIRST.unpack_from(opened)
        chunks, place = [], FIRST.size
        while place < len(opened):
            (length,) = LENGTH.unpack_from(opened, place)
            place += LENGTH.size
            chunks.append(opened[place : place + length])
            place += length
        return Chunks(first, chunks)

    def sealed_document(self, document: dict[str, Any], of: bytes) -> bytes:
        """A document, sealed."""
        return self.seal(json.dumps(document).encode(), of)

    def document(self, sealed: bytes, of: bytes) -> dict[str, Any]:
        """The document; raises Unreadable."""
        found: dict[str, Any] = json.loads(self.open(sealed, of))
        return found


def key_of(identity: str) -> str:
    """What the stream with an id is kept as."""
    return hashlib.sha256(identity.encode()).hexdigest()


def text_of(data: bytes) -> str:
    """Bytes as JSON can have them."""
    return base64.b64encode(data).decode("ascii")


def bytes_of(text: str) -> bytes:
    """The bytes that a text stands for."""
    return base64.b64decode(text)
