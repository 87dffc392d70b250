"""GET /openapi.json and /docs: what the REST API is, for programs and for people."""

from functools import cached_property
from importlib.resources import files
from typing import Any

import orjson

from rest_bridge.connection import Headers
from rest_bridge.dialects.admin.openapi import document
from rest_bridge.dialects.admin.page import page
from rest_bridge.exchange import JSON, Exchange

# The page needs nothing but itself, and nothing else may get in.
POLICY = (
    b"default-src 'none'; style-src 'self'; script-src 'self'; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'"
)
SAFE: Headers = (
    (b"content-security-policy", POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
HTML: Headers = ((b"content-type", b"text/html; charset=utf-8"), *SAFE)
CSS: Headers = ((b"content-type", b"text/css; charset=utf-8"), *SAFE)
SCRIPT: Headers = ((b"content-type", b"text/javascript; charset=utf-8"), *SAFE)


class Description:
    """Shows the description, which is written when it is first asked for."""

    @cached_property
    def _document(self) -> dict[str, Any]:
        return document()

    @cached_property
    def _json(self) -> bytes:
        return orjson.dumps(self._document)

    @cached_property
    def _page(self) -> bytes:
        return page(self._document).encode()

    async def show_document(self, exchange: Exchange) -> None:
        """Shows the OpenAPI document."""
        await exchange.respond(200, self._json, JSON)

    async def show_page(self, exchange: Exchange) -> None:
        """Shows the reference page."""
        await exchange.respond(200, self._page, HTML)

    async def show_style(self, exchange: Exchange) -> None:
        """Shows the page's style sheet."""
        await exchange.respond(200, part_of_page("page.css"), CSS)

    async def show_script(self, exchange: Exchange) -> None:
        """Shows the page's script, without which it can be read too."""
        await exchange.respond(200, part_of_page("page.js"), SCRIPT)


def part_of_page(name: str) -> bytes:
    """A file that lies beside this module."""
    return files("rest_bridge.dialects.admin").joinpath(name).read_bytes()
