"""An account learns by webhooks what happens to it: over the administrative API, from a whole gateway."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.kept import ROOT, Kept, kept
from tests.support.upstream import Upstream, answer, reached
from tests.support.webhook_receiver import OK, hooks_url, is_signed_by, types

# The echo says one word for one token: a word costs a dollar.
PARROT = {
    "targets": [{"provider": "echo", "model": "echo"}],
    "price": {"input_per_million": 0, "output_per_million": 1_000_000},
}
SETTINGS: dict[str, Any] = {"models": {"parrot": PARROT}, "webhooks": {"backoff_seconds": 0.05, "timeout_seconds": 5}}
KEY_FIELDS = ("key_id", "kind", "label", "project", "expire_time")


@dataclass
class Admin:
    """A caller of the administrative API."""

    http: httpx.AsyncClient
    key: str

    async def __call__(self, method: str, path: str, body: Any = None, *, status: int = 200) -> Any:
        headers = {"authorization": f"Bearer {self.key}"}
        response = await self.http.request(method, f"/api/v1/{path}", json=body, headers=headers)
        assert response.status_code == status, response.text
        return response.json().get("data") if status == 200 else response.json()


@dataclass
class World:
    """A gateway, its operator, and an account whose endpoint is the receiver."""

    kept: Kept
    receiver: Upstream
    operator: Admin
    owner: Admin
    account: dict[str, Any]

    async def says(self, words: str, status: int = 200) -> None:
        """Asks the parrot, which costs a dollar a word."""
        body = {
            "model": "parrot", "messages": [{"role": "user", "content": words}], "max_tokens": len(words.split()),
        }  # fmt: skip
        headers = {"authorization": f"Bearer {self.owner.key}"}
        response = await self.owner.http.post("/v1/chat/completions", json=body, headers=headers)
        assert response.status_code == status, response.text

    async def credit(self, amount: str, reference: str) -> None:
        body = {"account_id": self.account["id"], "amount_usd": amount, "reference": reference}
        await self.operator("POST", "balance/credits", body)

    async def told(self, *expected: str) -> list[dict[str, Any]]:
        """What came, once so much has; nothing else did."""
        await reached(lambda: len(self.receiver.requests) >= len(expected), within=15)
        assert types(self.receiver) == list(expected)
        return [request.json() for request in self.receiver.requests]


@asynccontextmanager
async def world(tmp_path: Path, receiver: Upstream, **settings: Any) -> AsyncIterator[World]:
    receiver.script(OK)
    async with (
        kept(tmp_path, receiver, **{**SETTINGS, **settings}) as gateway,
        httpx.AsyncClient(base_url=gateway.gateway.http_url, trust_env=False, timeout=30) as http,
    ):
        operator = Admin(http, ROOT)
        made = await operator("POST", "accounts", {"name": "acme", "low_balance_usd": "5"})
        owner = Admin(http, made["secret"])
        yield World(gateway, receiver, operator, owner, made["account"])


async def until(holds: Callable[[], Awaitable[bool]], within: float = 15) -> None:
    """Asks until it is so."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while not await holds():
        assert loop.time() < deadline
        await asyncio.sleep(0.02)


@pytest.fixture
async def receiver() -> AsyncIterator[Upstream]:
    async with Upstream() as scripted:
        yield scripted


@pytest.fixture
async def acme(tmp_path: Path, receiver: Upstream) -> AsyncIterator[World]:
    async with world(tmp_path, receiver) as made:
        yield made


async def test_an_account_is_told_of_money_and_keys_once_each(acme: World) -> None:
    shown = await acme.owner("PATCH", "accounts/me", {"webhook_url": hooks_url(acme.receiver)})
    assert (shown["webhook_url"], shown["webhook_events"], shown["low_balance_usd"]) == (
        hooks_url(acme.receiver), [], "5",
    )  # fmt: skip
    await acme.credit("8", "first")
    made = await acme.owner("POST", "keys", {"label": "app", "kind": "private", "project": "p"})
    await acme.owner("POST", f"keys/{made['key']['id']}/rotate", {})
    await acme.owner("DELETE", f"keys/{made['key']['id']}")
    bodies = await acme.told("credit.added", "key.created", "key.rotated", "key.deleted")
    assert bodies[0]["data"] | {"credit_id": ""} == {
        "credit_id": "", "amount_usd": "8", "reference": "first", "expire_time": None, "balance_usd": "8",
    }  # fmt: skip
    for body in bodies[1:]:
        assert tuple(body["data"]) == KEY_FIELDS
        assert (body["data"]["key_id"], body["data"]["label"], body["data"]["project"]) == (
            made["key"]["id"], "app", "p",
        )  # fmt: skip
        assert "sk-hg" not in str(body)
    for body, request in zip(bodies, acme.receiver.requests, strict=True):
        assert (body["id"], body["type"]) == (
            request.headers["x-headgate-delivery"], request.headers["x-headgate-event"],
        )  # fmt: skip
        assert body["account_id"] == acme.account["id"]
        assert (request.method, request.path) == ("POST", "/hooks/?for=headgate")
        assert "x-headgate-signature" not in request.headers  # it has no secret yet


async def test_a_balance_that_ends_is_told_of_once_until_there_is_more(acme: World) -> None:
    events = ["balance.low", "balance.exhausted"]
    await acme.owner("PATCH", "accounts/me", {"webhook_url": hooks_url(acme.receiver), "webhook_events": events})
    await acme.credit("8", "first")
    await acme.says("one two three four")
    (low,) = await acme.told("balance.low")
    assert low["data"] == {"balance_usd": "4", "low_balance_usd": "5"}
    await acme.says("one")
    for _ in range(3):
        await acme.says("one two three four", 402)
    _, exhausted = await acme.told("balance.low", "balance.exhausted")
    assert exhausted["data"] == {"balance_usd": "3", "estimated_cost_usd": "4"}
    await acme.credit("1", "too little")  # no longer exhausted, still low
    await acme.says("one two three four five", 402)
    await acme.told("balance.low", "balance.exhausted", "balance.exhausted")
    await acme.credit("3", "enough")
    await acme.says("one two three")
    await acme.told("balance.low", "balance.exhausted", "balance.exhausted", "balance.low")


async def test_a_spend_cap_is_told_of_once_for_each_cap(acme: World) -> None:
    url = hooks_url(acme.receiver)
    await acme.credit("100", "first")
    path = f"accounts/{acme.account['id']}"
    await acme.operator("PATCH", path, {"webhook_url": url, "spend_cap_usd": "2"})
    await acme.says("one")
    for _ in range(2):
        await acme.says("one two", 402)
    (first,) = await acme.told("spend_cap.reached")
    assert first["data"] == {"spent_usd": "1", "spend_cap_usd": "2", "estimated_cost_usd": "2"}
    await acme.operator("PATCH", path, {"spend_cap_usd": "3"})
    await reached(lambda: types(acme.receiver) == ["spend_cap.reached"])
    await acme.says("one two three", 402)
    _, second = await acme.told("spend_cap.reached", "spend_cap.reached")
    assert second["data"]["spend_cap_usd"] == "3"


async def test_a_test_shows_what_comes_of_it_and_the_secret_of_now_signs(acme: World) -> None:
    path = "accounts/me/webhooks/test"
    refused = await acme.owner("POST", path, {}, status=409)
    assert "webhook_url" in refused["error"]
    await acme.owner(
        "PATCH", "accounts/me", {"webhook_url": hooks_url(acme.receiver), "webhook_events": ["key.deleted"]}
    )
    old = (await acme.owner("POST", "accounts/me/hook-secret/rotate", {}))["secret"]
    result = await acme.owner("POST", path, {})
    assert (result["delivered"], result["status_code"], result["error"]) == (True, 204, "")
    new = (await acme.owner("POST", "accounts/me/hook-secret/rotate", {}))["secret"]
    acme.receiver.script(answer(status=500))
    result = await acme.owner("POST", path, {})
    assert (result["delivered"], result["status_code"]) == (False, 500)
    assert result["error"] == "The endpoint answered with status 500."
    acme.receiver.script(answer(status=302, headers={"location": "http://127.0.0.1:1/"}))
    assert "302, which is not followed" in (await acme.owner("POST", path, {}))["error"]
    first, second, third = acme.receiver.requests
    assert is_signed_by(old, first)
    for later in (second, third):
        assert is_signed_by(new, later)
        assert not is_signed_by(old, later)
    assert first.json()["type"] == "webhook.test"
    assert (await acme.owner("GET", "accounts/me/webhooks")) == []


async def test_a_receiver_that_fails_gets_it_again_and_both_are_listed(acme: World) -> None:
    acme.receiver.script(answer(status=500), answer(status=503), OK)
    await acme.owner("PATCH", "accounts/me", {"webhook_url": hooks_url(acme.receiver)})
    await acme.credit("8", "first")
    bodies = await acme.told("credit.added", "credit.added", "credit.added")
    assert bodies[0] == bodies[1] == bodies[2]
    assert [request.headers["x-headgate-attempt"] for request in acme.receiver.requests] == ["1", "2", "3"]

    async def is_delivered() -> bool:
        (row,) = await acme.owner("GET", "accounts/me/webhooks")
        assert (row["id"], row["type"]) == (bodies[0]["id"], "credit.added")
        return bool(row["state"] == "delivered")

    await until(is_delivered)
    (row,) = await acme.owner("GET", f"accounts/{acme.account['id']}/webhooks")
    assert (row["attempts"], row["status_code"], row["error"]) == (3, 204, "")
    metrics = (await acme.operator.http.get("/metrics")).text
    assert 'headgate_webhooks_total{outcome="retried"} 2.0' in metrics
    assert 'headgate_webhooks_total{outcome="delivered"} 1.0' in metrics


async def test_a_receiver_that_says_gone_gets_nothing_more_until_it_is_set_again(acme: World) -> None:
    acme.receiver.script(answer(status=410), OK)
    url = hooks_url(acme.receiver)
    await acme.owner("PATCH", "accounts/me", {"webhook_url": url})
    await acme.credit("8", "first")
    await acme.told("credit.added")

    async def is_stopped() -> bool:
        return "webhook_stop_time" in await acme.owner("GET", "accounts/me")

    await until(is_stopped)
    await acme.credit("8", "second")
    shown = await acme.owner("PATCH", "accounts/me", {"webhook_url": url})
    assert "webhook_stop_time" not in shown
    await acme.credit("8", "third")
    bodies = await acme.told("credit.added", "credit.added")
    assert [body["data"]["reference"] for body in bodies] == ["first", "third"]
    assert [row["state"] for row in await acme.owner("GET", "accounts/me/webhooks")][1:] == ["failed"]


@pytest.mark.parametrize(
    ("fields", "name", "why"),
    [
        ({"webhook_url": "http://10.0.0.7/hooks"}, "webhook_url", "not public"),
        ({"webhook_url": "https://[::1]/hooks"}, "webhook_url", "not public"),
        ({"webhook_url": "https://169.254.169.254/latest"}, "webhook_url", "not public"),
        ({"webhook_url": "https://[fe80::1]/"}, "webhook_url", "not public"),
        ({"webhook_url": "https://[::ffff:10.0.0.7]/"}, "webhook_url", "not public"),
        ({"webhook_url": "ftp://example.com/"}, "webhook_url", "https://"),
        ({"webhook_url": "https://user:secret@example.com/"}, "webhook_url", "user name"),
        ({"webhook_url": "https://example.com/#a"}, "webhook_url", "#"),
        ({"webhook_url": "https:///hooks"}, "webhook_url", "host"),
        ({"webhook_url": "https://example.com:0/"}, "webhook_url", "host"),
        ({"webhook_url": "https://example.com/" + "a" * 2048}, "webhook_url", "2048"),
        ({"webhook_events": ["key.created", "key.eaten"]}, "webhook_events[1]", "key.rotated"),
        ({"low_balance_usd": "0"}, "low_balance_usd", "above 0"),
        ({"low_balance_usd": "5 dollars"}, "low_balance_usd", "decimal"),
    ],
)
async def test_what_cannot_be_is_refused_by_its_name(acme: World, fields: dict[str, Any], name: str, why: str) -> None:
    changed = await acme.owner("PATCH", "accounts/me", fields, status=400)
    made = await acme.operator("POST", "accounts", {"name": "b", **fields}, status=400)
    for refused in (changed, made):
        assert refused["details"]["param"] == name, refused
        assert why in refused["error"]


async def test_an_account_changes_of_itself_what_is_of_its_webhooks_only(acme: World) -> None:
    await acme.owner("PATCH", "accounts/me", {"low_balance_usd": "7"})
    await acme.owner("PATCH", "accounts/me", {"low_balance_usd": "7", "spend_cap_usd": "1000"}, status=403)
    await acme.owner("PATCH", "accounts/me", {"name": "mine"}, status=403)


async def test_webhooks_of_another_account_are_not_there(acme: World) -> None:
    other = (await acme.operator("POST", "accounts", {"name": "other"}))["account"]["id"]
    for method, path, body in (
        ("POST", f"accounts/{other}/webhooks/test", {}),
        ("GET", f"accounts/{other}/webhooks", None),
        ("PATCH", f"accounts/{other}", {"webhook_url": "https://example.com/"}),
    ):
        await acme.owner(method, path, body, status=404)


async def test_nothing_can_be_set_where_webhooks_are_turned_off(tmp_path: Path, receiver: Upstream) -> None:
    async with world(tmp_path, receiver, webhooks={"enabled": False}) as made:
        refused = await made.owner("PATCH", "accounts/me", {"webhook_url": hooks_url(receiver)}, status=400)
        assert refused["details"]["param"] == "webhook_url"
        await made.owner("POST", "accounts/me/webhooks/test", {}, status=409)


async def test_without_networks_of_the_operators_only_tls_will_do(tmp_path: Path, receiver: Upstream) -> None:
    async with world(tmp_path, receiver, private_endpoint_networks=[]) as made:
        for url in (hooks_url(receiver), "http://example.com/", "https://localhost/", "https://127.0.0.1/"):
            await made.owner("PATCH", "accounts/me", {"webhook_url": url}, status=400)
        await made.owner("PATCH", "accounts/me", {"webhook_url": "https://example.com/hooks"})


async def test_the_description_of_the_api_has_the_fields(acme: World) -> None:
    document = (await acme.operator.http.get("/openapi.json")).json()
    account = document["components"]["schemas"]["Account"]["properties"]
    assert {"webhook_url", "webhook_events", "low_balance_usd", "webhook_stop_time"} <= account.keys()
    assert "/api/v1/accounts/{account_id}/webhooks/test" in document["paths"]
