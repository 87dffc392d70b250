"""Writes messages in AWS's binary event stream encoding, as Bedrock does."""

import json
from struct import pack
from typing import Any
from zlib import crc32


def encoded(headers: dict[str, str | bytes | int | bool], payload: bytes) -> bytes:
    """One message."""
    block = b"".join(header(name, value) for name, value in headers.items())
    prelude = pack(">II", 16 + len(block) + len(payload), len(block))
    data = prelude + pack(">I", crc32(prelude)) + block + payload
    return data + pack(">I", crc32(data))


def header(name: str, value: str | bytes | int | bool) -> bytes:
    """One header: text, bytes, a whole number of 32 bits, or a truth."""
    if isinstance(value, bool):
        typed = b"\x00" if value else b"\x01"
    elif isinstance(value, int):
        typed = b"\x04" + pack(">i", value)
    else:
        data = value.encode() if isinstance(value, str) else value
        typed = (b"\x07" if isinstance(value, str) else b"\x06") + pack(">H", len(data)) + data
    return pack(">B", len(name)) + name.encode() + typed


def event(kind: str, document: Any) -> bytes:
    """An event of a stream: "messageStop", and what it says."""
    return message("event", "event", kind, document)


def exception(kind: str, document: Any) -> bytes:
    """A failure in a stream: "throttlingException", and what it says."""
    return message("exception", "exception", kind, document)


def message(what: str, header_of_kind: str, kind: str, document: Any) -> bytes:
    """One message that carries JSON."""
    headers: dict[str, str | bytes | int | bool] = {
        f":{header_of_kind}-type": kind,
        ":content-type": "application/json",
        ":message-type": what,
    }
    return encoded(headers, json.dumps(document, ensure_ascii=False).encode())
