"""Reads messages out of a stream in AWS's binary encoding, wherever the bytes were cut.

Source: "Event stream encoding", https://docs.aws.amazon.com/AmazonS3/latest/API/RESTSelectObjectAppendix.html and
https://smithy.io/2.0/aws/amazon-eventstream.html
"""

from collections.abc import Mapping
from struct import Struct, error
from typing import NamedTuple
from zlib import crc32

from gateway_core.errors import ProviderBroken
from gateway_core.upstream import faults

PRELUDE = Struct(">III")
"""Bytes of the message, bytes of its headers, and the checksum of both."""

CHECKSUM = Struct(">I")
SHORT = Struct(">H")

LEAST_BYTES = PRELUDE.size + CHECKSUM.size

# By the type of a header: the size of its value. 6 and 7 are bytes and text, after their length.
SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
BYTES, TEXT = 6, 7

MEDIA_TYPE = "application/vnd.amazon.eventstream"


class Message(NamedTuple):
    """One message: its headers that are text, by name, and its payload."""

    headers: Mapping[str, str]
    payload: bytes


class MessageReader:
    """Turns pieces of a stream into messages, as soon as each is whole.

    A message of more than `max_message_bytes` and one whose checksums do not fit raise ProviderBroken.
    """

    def __init__(self, max_message_bytes: int, provider: str) -> None:
        """Takes the most bytes that a message may have, and whose stream it is."""
        self._limit = max_message_bytes
        self._provider = provider
        self._buffer = bytearray()
        self._size = 0  # of the message that has begun, once its prelude is there

    def feed(self, piece: bytes) -> list[Message]:
        """The messages that end in this piece."""
        self._buffer += piece
        messages: list[Message] = []
        while len(self._buffer) >= PRELUDE.size:
            if not self._size:
                self._size = self._announced()
            if len(self._buffer) < self._size:
                break
            messages.append(self._message(bytes(self._buffer[: self._size])))
            del self._buffer[: self._size]
            self._size = 0
        return messages

    def finish(self) -> list[Message]:
        """Nothing: what the end of the stream cut off is no message, and whether it was the last the answer tells."""
        return []

    def _announced(self) -> int:
        """The size of a message, from its prelude."""
        size, headers_size, checksum = PRELUDE.unpack_from(self._buffer)
        if crc32(self._buffer[:8]) != checksum or size < LEAST_BYTES + headers_size:
            raise self._garbage()
        if size > self._limit:
            raise faults.oversized(self._provider, self._limit)
        return int(size)

    def _message(self, data: bytes) -> Message:
        if crc32(data[: -CHECKSUM.size]) != CHECKSUM.unpack(data[-CHECKSUM.size :])[0]:
            raise self._garbage()
        payload_at = PRELUDE.size + PRELUDE.unpack_from(data)[1]
        try:
            headers = texts(data[PRELUDE.size : payload_at])
        except (ValueError, KeyError, IndexError, error):
            raise self._garbage() from None
        return Message(headers, data[payload_at : -CHECKSUM.size])

    def _garbage(self) -> ProviderBroken:
        message = f"Provider {self._provider} sent an event stream that is damaged."
        return ProviderBroken(message, provider=self._provider)


def texts(block: bytes) -> dict[str, str]:
    """The headers of a message that are text; raises ValueError, KeyError, IndexError or struct.error for no block."""
    found: dict[str, str] = {}
    at = 0
    while at < len(block):
        name_at = at + 1
        type_at = name_at + block[at]
        kind = block[type_at]
        value_at, size = type_at + 1, SIZES.get(kind)
        if size is None:
            if kind not in (BYTES, TEXT):
                raise ValueError(f"there is no header of type {kind}")
            size = SHORT.unpack_from(block, value_at)[0]
            value_at += SHORT.size
        at = value_at + size
        if at > len(block):
            raise ValueError("a header is cut")
        if kind == TEXT:
            found[block[name_at:type_at].decode()] = block[value_at:at].decode()
    return found
