"""Tests of what is read of a request's head."""

from typing import Any

import pytest

from rest_bridge.request_reader import RequestReader, Unfit

VERSIONS = {b"0.9": False, b"1.0": False, b"1.1": True, b"2.0": False}
"""Each that the parser takes, and whether a connection may go on where nothing is said of it."""


class Heard:
    """Keeps what a reader tells."""

    def __init__(self) -> None:
        self.began: list[tuple[str, bool]] = []

    def request_began(self, scope: Any, headers: dict[bytes, bytes], keep_alive: bool) -> None:
        """Keeps the version, and whether the connection may go on."""
        self.began.append((scope["http_version"], keep_alive))

    def body_came(self, piece: bytes) -> None:
        """Nothing is expected."""

    def request_ended(self) -> None:
        """Nothing is kept."""


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("said", [b"", b"keep-alive", b"Keep-Alive", b"close", b"x"])
def test_only_version_1_1_keeps_its_connection_unless_it_says_otherwise(version: bytes, said: bytes) -> None:
    heard = Heard()
    line = b"Connection: " + said + b"\r\n" if said else b""
    try:
        RequestReader(heard, 4096).feed(b"GET / HTTP/" + version + b"\r\nhost: x\r\n" + line + b"\r\n")
    except Unfit:
        assert version != b"1.1"
        assert version != b"1.0"
        return
    assert heard.began == [(version.decode(), VERSIONS[version] and said != b"close")]
