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
        self.body = b""

    def request_began(self, scope: Any, headers: dict[bytes, bytes], keep_alive: bool) -> None:
        """Keeps the version, and whether the connection may go on."""
        self.began.append((scope["http_version"], keep_alive))

    def body_came(self, piece: bytes) -> None:
        """Keeps it."""
        self.body += piece

    def request_ended(self) -> None:
        """Nothing is kept."""


class Scopes(Heard):
    """Keeps the scopes."""

    def __init__(self) -> None:
        super().__init__()
        self.scopes: list[dict[str, Any]] = []

    def request_began(self, scope: Any, headers: dict[bytes, bytes], keep_alive: bool) -> None:
        """Keeps it."""
        self.scopes.append(scope)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("said", [b"", b"keep-alive", b"Keep-Alive", b"close", b"x"])
@pytest.mark.parametrize("name", [b"Connection", b"Proxy-Connection"])
def test_only_version_1_1_keeps_its_connection_unless_it_says_otherwise(
    version: bytes, said: bytes, name: bytes
) -> None:
    heard = Heard()
    line = name + b": " + said + b"\r\n" if said else b""
    try:
        RequestReader(heard, 4096).feed(b"GET / HTTP/" + version + b"\r\nhost: x\r\n" + line + b"\r\n")
    except Unfit:
        assert version != b"1.1"
        assert version != b"1.0"
        return
    assert heard.began == [(version.decode(), VERSIONS[version] and said != b"close")]


def test_a_target_tells_the_same_behind_any_other() -> None:
    targets = [
        b"/a",
        b"/a",
        b"/b?x=%20",
        b"/%61?y",
        b"/" + b"l" * 200,
        b"/a",
        b"/" + b"m" * 200,
        b"http://h/a?z",
        b"*",
        b"/a",
    ]

    def told(reader: RequestReader, heard: Scopes, url: bytes) -> dict[str, Any]:
        assert reader.feed(b"OPTIONS " + url + b" HTTP/1.1\r\nhost: x\r\n\r\n")
        scope = heard.scopes.pop()
        known = {name: value for name, value in scope.items() if name != "headers"}
        scope["path"] = scope["path_params"] = "of this request only"
        return known

    heard, alone = Scopes(), Scopes()
    reader = RequestReader(heard, 4096)
    for url in targets:
        assert told(reader, heard, url) == told(RequestReader(alone, 4096), alone, url), url


OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"
HEAD = b"POST / HTTP/1.1\r\nhost: x\r\n" + OFFER + b"content-length: 5\r\nx-more: y\r\n\r\n"


@pytest.mark.parametrize("before", [b"", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"], ids=["alone", "behind another"])
def test_an_offer_in_a_head_that_comes_in_two_pieces_takes_no_body_away(before: bytes) -> None:
    asked = HEAD + b"Hello"
    # But for a cut in the very name of the offer, which is found out too late.
    name = HEAD.index(b"\r\nUpgrade:")
    for cut in (*range(1, name + 1), *range(HEAD.index(b": h2c") + 1, len(asked))):
        heard = Heard()
        reader = RequestReader(heard, 4096)
        if before:
            assert reader.feed(before)
        assert reader.feed(asked[:cut])
        assert reader.feed(asked[cut:])
        assert heard.body == b"Hello"
        assert len(heard.began) == 1 + bool(before)
        assert reader.feed(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert len(heard.began) == 2 + bool(before)


def test_an_offer_in_a_head_that_begins_behind_another_request_takes_no_body_away() -> None:
    heard = Heard()
    reader = RequestReader(heard, 4096)
    plain = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nHello"
    assert reader.feed(plain + HEAD[:10])
    assert reader.feed(HEAD[10:] + b"Hello")
    assert heard.body == b"HelloHello"


@pytest.mark.parametrize("offer", [b"", OFFER], ids=["without an offer", "with an offer"])
def test_what_looks_like_an_offer_in_a_body_stays_wherever_the_head_is_cut(offer: bytes) -> None:
    body = b"{}" + b"\r\nupgrade: x" * 5 + b"\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
    head = b"POST / HTTP/1.1\r\nhost: x\r\n" + offer + b"content-length: %d\r\n\r\n" % len(body)
    for cut in range(len(head) - 6, len(head) + 6):
        heard = Heard()
        reader = RequestReader(heard, 4096)
        assert reader.feed((head + body)[:cut])
        assert reader.feed((head + body)[cut:])
        assert heard.body == body
        assert len(heard.began) == 1
    for size in (1, 2, 3, 4, 5):
        heard = Heard()
        reader = RequestReader(heard, 4096)
        asked = (head if not offer else head.replace(offer, b"")) + body
        for start in range(0, len(asked), size):
            assert reader.feed(asked[start : start + size])
        assert heard.body == body
        assert len(heard.began) == 1
