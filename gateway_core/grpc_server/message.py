"""The messages of a request: out of pieces as they come, within a bound, uncompressed."""

import zlib
from collections.abc import Iterator
from typing import NamedTuple

from grpc import StatusCode

PREFIX_BYTES = 5
"""Of a message: whether it is compressed, and its length."""
RATIO_AT_MOST = 100
"""How much longer a message may be than it is compressed; texts are ten times. Inflating holds up all other calls."""
ANY_RATIO_BYTES = 1024 * 1024
"""Of a message that may be longer than that."""
WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
ENCODINGS = "identity, deflate, gzip"


class Unacceptable(Exception):
    """A request that is refused for what its messages are."""

    def __init__(self, code: StatusCode, words: str) -> None:
        """Takes the status."""
        super().__init__(words)
        self.code = code
        self.words = words


class Sent(NamedTuple):
    """A message as it was sent."""

    octets: bytes
    is_compressed: bool


class MessageReader:
    """The messages of one request."""

    def __init__(self, encoding: str, most: int) -> None:
        """Takes how they may be compressed, and how long each may be, compressed and not."""
        self._encoding = encoding
        self._most = most
        self._held = bytearray()

    @property
    def held_bytes(self) -> int:
        """How much of an unfinished message is here."""
        return len(self._held)

    def feed(self, data: bytes) -> Iterator[Sent]:
        """The messages that a piece completes; raises Unacceptable, for one that is too long as soon as it is begun."""
        held = self._held
        held += data
        position = 0
        while len(held) - position >= PREFIX_BYTES:
            is_compressed = held[position]
            start = position + PREFIX_BYTES
            length = int.from_bytes(held[position + 1 : start], "big")
            self._check(is_compressed, length)
            if len(held) - start < length:
                break
            position = start + length
            yield Sent(bytes(held[start:position]), bool(is_compressed))
        del held[:position]

    def message(self, sent: Sent) -> bytes:
        """What a message says; raises Unacceptable for one that cannot be read."""
        return self._inflated(sent.octets) if sent.is_compressed else sent.octets

    def _check(self, is_compressed: int, length: int) -> None:
        if length > self._most:
            raise too_long(length, self._most)
        if is_compressed > 1:
            raise Unacceptable(StatusCode.INTERNAL, "The first octet of a message is neither 0 nor 1.")
        if is_compressed and self._encoding not in WINDOW_BITS:
            if self._encoding == "identity":
                raise Unacceptable(StatusCode.INTERNAL, "A message is compressed, and grpc-encoding does not say how.")
            raise Unacceptable(StatusCode.UNIMPLEMENTED, f"Messages may be compressed as {ENCODINGS}.")

    def _inflated(self, message: bytes) -> bytes:
        inflating = zlib.decompressobj(WINDOW_BITS[self._encoding])
        most = min(self._most, max(ANY_RATIO_BYTES, RATIO_AT_MOST * len(message)))
        try:
            found = inflating.decompress(message, most + 1)
        except zlib.error:
            raise Unacceptable(StatusCode.INTERNAL, f"A message is not compressed as {self._encoding}.") from None
        if len(found) > most:
            raise too_long(len(found), most)
        if not inflating.eof:
            raise Unacceptable(StatusCode.INTERNAL, f"A message is not compressed as {self._encoding}.")
        return found


def too_long(length: int, most: int) -> Unacceptable:
    """What a message that is too long is refused with."""
    words = f"Received message larger than max ({length} vs. {most})"
    return Unacceptable(StatusCode.RESOURCE_EXHAUSTED, words)


def too_much() -> Unacceptable:
    """What a message is refused with that is one of many unfinished ones."""
    return Unacceptable(StatusCode.RESOURCE_EXHAUSTED, "Too much of unfinished requests is on this connection.")
