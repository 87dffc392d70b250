"""Web pages that call from a browser: what it asks before, and what lets the page read the answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from gateway_core.config import Config
from headgate_cli.serve import bridge_config
from tests.support.gateway import running

CHAT = "/v1/chat/completions"
PAGE = "https://app.example.com"
BODY = {"model": "echo/echo", "messages": [{"role": "user", "content": "Hi"}]}
ASKING = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-lang",
}
ALLOW = "access-control-allow-origin"


@asynccontextmanager
async def http_of(*origins: str) -> AsyncIterator[httpx.AsyncClient]:
    config = Config.model_validate({"cors": {"allowed_origins": list(origins)}, "drain_seconds": 1})
    async with (
        running(config, bridge=bridge_config(config)) as gateway,
        httpx.AsyncClient(base_url=gateway.http_url, trust_env=False) as http,
    ):
        yield http


def told(response: httpx.Response) -> dict[str, str]:
    """What is said to the browser."""
    return {name: value for name, value in response.headers.items() if name.startswith("access-control-")}


@pytest.mark.parametrize(("origins", "answer"), [((PAGE,), PAGE), ((PAGE, "https://b.example"), PAGE), (("*",), "*")])
async def test_a_page_that_may_call_is_told_so_before_and_reads_every_answer(
    origins: tuple[str, ...], answer: str
) -> None:
    async with http_of(*origins) as http:
        before = await http.options(CHAT, headers={"origin": PAGE, **ASKING})
        assert (before.status_code, before.content) == (200, b"")
        assert before.headers["access-control-allow-methods"] == "POST"
        assert before.headers["access-control-allow-headers"] == ASKING["access-control-request-headers"]
        wrong = await http.post(CHAT, json={}, headers={"origin": PAGE})
        whole = await http.post(CHAT, json=BODY, headers={"origin": PAGE})
        stream = await http.post(CHAT, json={**BODY, "stream": True}, headers={"origin": PAGE})
        lines = await http.post("/api/chat", json=BODY, headers={"origin": PAGE})
        nowhere = await http.get("/nowhere", headers={"origin": PAGE})
        answers = [before, wrong, whole, stream, lines, nowhere]
        assert [response.status_code for response in answers] == [200, 400, 200, 200, 200, 404]
        for response in answers:
            assert response.headers[ALLOW] == answer
            assert response.headers["access-control-expose-headers"] == "*"
            assert "access-control-allow-credentials" not in response.headers
            # Where the answer depends on the page, a cache may not give it to another one.
            assert response.headers.get("vary") == (None if answer == "*" else "origin")


async def test_another_page_is_told_nothing() -> None:
    async with http_of(PAGE) as http:
        for origin in ("https://other.example.com", "http://app.example.com", PAGE + ".evil.example", "null", "*"):
            before = await http.options(CHAT, headers={"origin": origin, **ASKING})
            assert (before.status_code, told(before)) == (405, {})
            answer = await http.post(CHAT, json=BODY, headers={"origin": origin})
            assert (answer.status_code, told(answer)) == (200, {})
            assert answer.headers["vary"] == "origin"


async def test_where_nothing_is_configured_nothing_is_said() -> None:
    async with http_of() as http:
        before = await http.options(CHAT, headers={"origin": PAGE, **ASKING})
        answer = await http.post(CHAT, json=BODY, headers={"origin": PAGE})
        for response in (before, answer):
            assert told(response) == {}
            assert "vary" not in response.headers
        assert [before.status_code, answer.status_code] == [405, 200]


@pytest.mark.parametrize("headers", [{}, {"origin": PAGE}, dict(ASKING)])
async def test_who_asks_for_no_page_gets_the_usual_answer(headers: dict[str, str]) -> None:
    async with http_of(PAGE) as http:
        assert (await http.options(CHAT, headers=headers)).status_code == 405


@pytest.mark.parametrize(
    "origin", [PAGE + "/", PAGE + "/chat", "app.example.com", "https://App.example.com", "", "https://*"]
)
def test_what_is_no_origin_is_refused_at_the_start(origin: Any) -> None:
    with pytest.raises(ValueError, match=r"https://app\.example\.com"):
        Config.model_validate({"cors": {"allowed_origins": [origin]}})
