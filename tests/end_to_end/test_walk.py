"""One walk over all that an operator and a developer do; at its end everything that tells money tells the same."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, BadRequestError, DefaultAsyncHttpxClient

from gateway_core.config import Config
from gateway_core.storage.store import Store
from tests.headgate_cli.program import ended
from tests.support.gateway import running
from tests.support.openai_vendor import completion, event, refusal
from tests.support.upstream import Silence, Upstream, json_answer, sse_answer

ROOT = "sk-hg-root00000000abcdefghijklmnopqrstuvwxyz0123456789"
# No sum of these is what floats make of it, and what one call costs has to be rounded.
INPUT, CACHED, OUTPUT, MULTIPLIER = Decimal("0.1234567"), Decimal("0.07"), Decimal("0.3333331"), Decimal("1.05")
CREDITS = (Decimal("0.1"), Decimal("0.2"), Decimal("0.000000000001"))
PICO, MILLION = Decimal("0.000000000001"), 10**6
SAID: Any = [{"role": "user", "content": "Hi"}]
# What the vendor tells of each answer: prompt, cached of it, completion, reasoning of it.
TOLD = ((1013, 0, 7, 0), (2001, 1500, 333, 300), (17, 16, 1, 1), (99_991, 3, 10_007, 9_999), (1, 0, 0, 0))
STREAMED = ((1009, 512, 77, 64), (31, 0, 1, 0))


def usage(prompt: int, cached: int, completed: int, reasoning: int) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt, "completion_tokens": completed, "total_tokens": prompt + completed,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }  # fmt: skip


def cost(used: dict[str, Any]) -> Decimal:
    """What tokens cost, by the price list: rounded once, half up, to picodollars."""
    cached = used.get("prompt_tokens_details", {}).get("cached_tokens", 0)
    total: Decimal = (used["prompt_tokens"] - cached) * INPUT + cached * CACHED + used["completion_tokens"] * OUTPUT
    return (total * MULTIPLIER / MILLION).quantize(PICO, ROUND_HALF_UP)


def told_cost(told: Any) -> Decimal:
    """What the usage of an answer says of its cost: a number, which has fewer digits than a float can tell apart."""
    return Decimal(repr(told.cost))


@dataclass
class Walk:
    """A gateway that somebody walks through."""

    url: str
    upstream: Upstream
    http: httpx.AsyncClient
    home: Path
    secret: str = ROOT

    async def data(self, method: str, path: str, secret: str | None = None, **given: Any) -> Any:
        """What the administrative API answers."""
        headers = {"authorization": f"Bearer {secret or self.secret}"}
        response = await self.http.request(method, path, headers=headers, **given)
        assert response.status_code == 200, response.text
        return response.json()["data"]

    async def ask(self, model: str, **more: Any) -> Any:
        """What OpenAI's SDK gets, with its headers."""
        async with DefaultAsyncHttpxClient(trust_env=False) as http:
            sdk = AsyncOpenAI(base_url=f"{self.url}/v1", api_key=self.secret, max_retries=0, http_client=http)
            return await sdk.chat.completions.with_raw_response.create(model=model, messages=SAID, **more)

    async def stream(self, model: str, *, leave: bool = False) -> list[Any]:
        """The chunks that it gets; with `leave`, until the first that says something."""
        chunks = []
        async with DefaultAsyncHttpxClient(trust_env=False) as http:
            sdk = AsyncOpenAI(base_url=f"{self.url}/v1", api_key=self.secret, max_retries=0, http_client=http)
            options: Any = {"stream": True, "stream_options": {"include_usage": True}}
            async with await sdk.chat.completions.create(model=model, messages=SAID, **options) as stream:
                async for chunk in stream:
                    chunks.append(chunk)
                    if leave and chunk.choices and chunk.choices[0].delta.content:
                        break
        return chunks

    async def records(self) -> list[dict[str, Any]]:
        """The records of the account, the oldest first, once all calls have ended."""
        async with asyncio.timeout(5):
            while True:
                found = await self.data("GET", "/api/v1/usage/records", params={"page_size": 1000})
                if all(record["status"] != "open" for record in found):
                    return list(reversed(found))


@pytest.fixture
async def walk(upstream: Upstream, tmp_path: Path) -> AsyncIterator[Walk]:
    price = {
        "input_per_million": str(INPUT),
        "cached_input_per_million": str(CACHED),
        "output_per_million": str(OUTPUT),
    }
    config = {
        "providers": {"lab": {"kind": "openai", "base_url": upstream.base_url, "lists_models": False}},
        "models": {"small": {"targets": [{"provider": "lab", "model": "tiny"}], "price": price}},
    }
    store = Store.at(None, tmp_path / "data", {"HEADGATE_SECRET_KEY": "a secret key of the tests, long enough"})
    async with (
        running(Config.model_validate(config), store=store, root_key=ROOT) as gateway,
        httpx.AsyncClient(base_url=gateway.http_url, trust_env=False) as http,
    ):
        yield Walk(gateway.http_url, upstream, http, tmp_path)


async def account_of(walk: Walk) -> str:
    """Makes an account with a plan, credits and a key of its own, which is the walk's from then on; its id."""
    plan = {"name": "dear", "price_multiplier": str(MULTIPLIER), "windows": [{"window_seconds": 60, "requests": 500}]}
    await walk.data("POST", "/api/v1/plans", json=plan)
    made = await walk.data("POST", "/api/v1/accounts", json={"name": "Acme", "plan": "dear", "default_tag": "walk"})
    account_id: str = made["account"]["id"]
    for number, amount in enumerate(CREDITS):
        credit = {"account_id": account_id, "amount_usd": f"{amount:f}", "reference": f"invoice {number}"}
        for _ in range(2):  # the second is the same credit, and adds nothing
            await walk.data("POST", "/api/v1/balance/credits", json=credit)
    key = await walk.data("POST", "/api/v1/keys", made["secret"], json={"kind": "private", "label": "app"})
    walk.secret = key["secret"]
    return account_id


async def gateway_of(walk: Walk) -> dict[str, Any]:
    """Makes a gateway of the account."""
    parameters = {"temperature": 0.25, "seed": 1}
    body = {"name": "support", "model": "small", "instructions": "Be kind.", "parameters": parameters}
    made: dict[str, Any] = await walk.data(
        "POST", "/api/v1/gateways", json={**body, "overrides": {"parameters": ["seed"]}}
    )
    return made


async def call_in_every_way(walk: Walk, gateway: dict[str, Any]) -> list[Decimal]:
    """Calls by slug, by id and by the model's own name; what each answer says that it cost."""
    costs = []
    names = (gateway["slug"], gateway["id"], "small")
    for number, told in enumerate(TOLD):
        walk.upstream.script(json_answer(completion({"content": "Hello"}, usage=usage(*told))))
        response = await walk.ask(names[number % 3])
        assert response.headers.get("x-headgate-gateway") == (None if number % 3 == 2 else gateway["id"])
        costs.append(Decimal(response.headers["x-headgate-cost"]))
        assert costs[-1] == told_cost(response.parse().usage) == cost(usage(*told))
    for number, told in enumerate(STREAMED):
        end = {**event({}), "choices": [], "usage": usage(*told)}
        walk.upstream.script(sse_answer([event({"content": "Hel"}), event({"content": "lo"}, "stop"), end]))
        chunks = await walk.stream(names[number])
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "Hello"
        assert chunks[-1].usage.prompt_tokens_details.cached_tokens == told[1]
        costs.append(told_cost(chunks[-1].usage))
        assert costs[-1] == cost(usage(*told))
    return costs


async def call_in_vain(walk: Walk, gateway: dict[str, Any]) -> None:
    """One call that the vendor refuses, and one whose caller leaves in the midst of the answer."""
    walk.upstream.script(json_answer(refusal("No."), status=400))
    with pytest.raises(BadRequestError):
        await walk.ask(gateway["slug"])
    walk.upstream.script(sse_answer([event({"content": "Once upon a time"}), Silence()]))
    await walk.stream(gateway["slug"], leave=True)


async def agree(walk: Walk, account_id: str, total: Decimal, calls: int) -> None:
    """Whatever tells the money of the account tells this."""
    balance = await walk.data("GET", "/api/v1/balance")
    assert Decimal(balance["spent_usd"]) == total
    assert Decimal(balance["balance_usd"]) == sum(CREDITS) - total
    assert Decimal(balance["reserved_usd"]) == 0
    credits = await walk.data("GET", "/api/v1/balance/credits")
    assert sum(Decimal(credit["remaining_usd"]) for credit in credits) == sum(CREDITS) - total
    for group_by in ("day", "hour", "model", "key", "gateway", "tag", "account"):
        summary = await walk.data("GET", "/api/v1/usage/summary", params={"group_by": group_by})
        assert Decimal(summary["total"]["cost_usd"]) == Decimal(summary["total"]["charged_usd"]) == total
        assert sum(Decimal(each["cost_usd"]) for each in summary["summaries"]) == total
        assert summary["total"]["request_count"] == calls
    own = {"account_id": account_id, "group_by": "account"}
    above = await walk.data("GET", "/api/v1/usage/summary", ROOT, params=own)
    assert [(each["group"], Decimal(each["cost_usd"])) for each in above["summaries"]] == [(account_id, total)]
    authorization = {"authorization": f"Bearer {walk.secret}"}
    exported = await walk.http.get("/api/v1/usage/export", headers=authorization)
    rows = list(csv.DictReader(io.StringIO(exported.text)))
    assert len(rows) == calls
    assert sum(Decimal(row["cost_usd"]) for row in rows) == sum(Decimal(row["charged_usd"]) for row in rows) == total


async def test_record_balance_summary_export_and_program_agree_to_the_last_digit(walk: Walk) -> None:
    account_id = await account_of(walk)
    gateway = await gateway_of(walk)
    costs = await call_in_every_way(walk, gateway)
    assert Decimal(repr(sum(map(float, costs)))) != sum(costs), "floats would do, and what follows shows nothing"
    await call_in_vain(walk, gateway)
    records = await walk.records()
    statuses = ["ok"] * len(costs) + ["failed", "cancelled"]
    assert [record["status"] for record in records] == statuses
    assert [Decimal(record["cost_usd"]) for record in records[: len(costs)]] == costs
    assert {record["tag"] for record in records} == {"walk"}
    refused, left = records[len(costs) :]
    assert Decimal(refused["cost_usd"]) == 0
    # What was delivered is charged, by an estimate that the record tells.
    assert Decimal(left["cost_usd"]) == cost(left["usage"]) > 0
    for record in records:
        assert record["charged_usd"] == record["cost_usd"]
        assert (Decimal(record["price"]["input_per_million"]), Decimal(record["price_multiplier"])) == (
            INPUT,
            MULTIPLIER,
        )
    assert [record["usage"]["completion_tokens_details"]["reasoning_tokens"] for record in records[: len(costs)]] == [
        told[3] for told in TOLD + STREAMED
    ]
    each = [Decimal(record["cost_usd"]) for record in records]
    total = sum(each, Decimal(0))
    await agree(walk, account_id, total, len(records))
    key = {"HEADGATE_API_KEY": walk.secret}
    said = await ended("usage", "--url", walk.url, "--by", "model", home=walk.home, variables=key)
    assert said.out.splitlines()[-1].split()[-1] == f"{total:f}".rstrip("0"), said.out
    said = await ended("usage", "--url", walk.url, "--json", home=walk.home, variables=key)
    assert Decimal(json.loads(said.out)["total"]["cost_usd"]) == total
    proved = await ended("doctor", "ledger", home=walk.home)
    assert (proved.code, proved.out.splitlines()) == (
        0,
        [
            f"{len(records)} calls, 0 of them open; charged: {f'{total:f}'.rstrip('0')} US$",
            "the ledger and the balances agree to the last digit",
        ],
    )


async def test_a_request_overrides_what_it_may_and_is_warned_of_what_it_may_not(walk: Walk) -> None:
    await account_of(walk)
    gateway = await gateway_of(walk)
    walk.upstream.script(json_answer(completion({"content": "Hello"})))
    for name in (gateway["slug"], gateway["id"]):
        response = await walk.ask(name, temperature=1, seed=7, top_p=0.5)
        sent = walk.upstream.requests[-1].json()
        assert (sent["temperature"], sent["seed"], sent["top_p"]) == (0.25, 7, 0.5)
        assert response.headers["x-headgate-warning"].startswith("temperature: the gateway's value stands")
        assert response.headers["x-headgate-gateway"] == gateway["id"]
        assert response.parse().model == "tiny-2026"
    (record, _) = await walk.records()
    assert (record["gateway_id"], record["gateway_version"]) == (gateway["id"], 1)
    assert (record["requested_model"], record["response_model"]) == (gateway["slug"], "tiny-2026")
