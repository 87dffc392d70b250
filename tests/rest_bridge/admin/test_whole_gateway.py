"""The administrative API over the real core and a real store: whatever is sent, the answer is one that is described."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from pydantic import SecretStr

from gateway_core.config import Config
from gateway_core.storage.store import Store
from tests.rest_bridge.admin.test_description import CHECKS, DOCUMENT, OPERATIONS
from tests.rest_bridge.admin.threaded import threaded
from tests.support.gateway import ARRANGEMENTS, Arrangement, running
from tests.support.postgres import PostgresServer, postgres_server

__all__ = ["postgres_server"]

ROOT_KEY = "sk-hg-" + "r" * 43
EXAMPLES = 20


@asynccontextmanager
async def gateway(
    folder: Path, arrangement: Arrangement = "together", database_url: str | None = None
) -> AsyncIterator[str]:
    place = None if database_url is None else SecretStr(database_url)
    store = Store.at(place, folder, {"HEADGATE_SECRET_KEY": "k" * 43})
    async with running(Config(), arrangement, store=store, root_key=ROOT_KEY) as started:
        yield started.http_url


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    database_url = None
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        database_url = asyncio.run(server.new_database())
    with threaded(gateway(tmp_path_factory.mktemp("data"), database_url=database_url)) as told:
        yield told


@pytest.mark.parametrize("operation", OPERATIONS)
def test_whatever_is_sent_the_answer_is_one_that_is_described(url: str, operation: str) -> None:
    schema = schemathesis.openapi.from_dict(DOCUMENT)

    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=schema.find_operation_by_id(operation).as_strategy())
    def check(case: Any) -> None:
        response = case.call(base_url=url, headers={"authorization": f"Bearer {ROOT_KEY}"})
        case.validate_response(response, checks=CHECKS)

    check()


@pytest.fixture(params=ARRANGEMENTS)
async def http(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway(tmp_path, request.param) as at:
        authorized = {"authorization": f"Bearer {ROOT_KEY}"}
        async with httpx.AsyncClient(base_url=at, headers=authorized, trust_env=False) as client:
            yield client


async def data(http: httpx.AsyncClient, method: str, path: str, **given: Any) -> Any:
    """The data of an answer that is no failure."""
    response = await http.request(method, path, **given)
    assert response.status_code == 200, response.text
    return response.json()["data"]


async def test_an_account_and_its_keys_live_and_die(http: httpx.AsyncClient) -> None:
    body = {"name": "Acme", "external_ref": "a-1", "spend_cap_usd": "25.5", "requests_per_minute": 60}
    made = await data(http, "POST", "/api/v1/accounts", json=body)
    path = f"/api/v1/accounts/{made['account']['id']}"
    own = {"authorization": f"Bearer {made['secret']}"}
    assert (await data(http, "GET", "/api/v1/accounts/me", headers=own))["name"] == "Acme"
    changed = await data(http, "PATCH", path, json={"name": "Acme Ltd", "requests_per_minute": None})
    assert (changed["name"], changed["external_ref"], changed["spend_cap_usd"]) == ("Acme Ltd", "a-1", "25.5")
    assert "requests_per_minute" not in changed
    key = await data(http, "POST", "/api/v1/keys", json={"kind": "public", "label": "web", "expires_in": 3600})
    assert (key["key"]["kind"], key["secret"][:6]) == ("public", "pk-hg-")
    kept = await data(http, "PATCH", f"/api/v1/keys/{key['key']['id']}", json={"expire_time": None, "project": "p"})
    assert ("expire_time" in kept, kept["project"], kept["label"]) == (False, "p", "web")
    public = await http.get("/api/v1/keys", headers={"authorization": f"Bearer {key['secret']}"})
    assert (public.status_code, public.json()["details"]["reason"]) == (403, "permission_denied")
    await data(http, "DELETE", path)
    gone = await http.get("/api/v1/keys", headers=own)
    assert (gone.status_code, gone.json()["details"]["reason"]) == (401, "unauthenticated")
    assert (await http.get(path)).json()["details"]["reason"] == "not_found"


async def test_a_gateway_is_changed_field_by_field(http: httpx.AsyncClient) -> None:
    body = {"name": "support", "model": "echo/echo", "parameters": {"temperature": 0.5, "seed": 7}, "prefill": "Well"}
    made = await data(http, "POST", "/api/v1/ai-gateways", json={**body, "metadata": {"team": "a"}})
    path = f"/api/v1/gateways/{made['slug']}"
    assert (made["version"], made["parameters"]["seed"]) == (1, 7)
    change = {"parameters": {"temperature": None, "top_p": 0.9}, "prefill": None}
    changed = await data(http, "PATCH", f"/api/v1/gateways/{made['id']}", json=change)
    assert changed["parameters"].get("temperature") is None
    assert (changed["parameters"]["top_p"], changed["parameters"]["seed"]) == (0.9, 7)
    assert ("prefill" in changed, changed["metadata"], changed["version"]) == (False, {"team": "a"}, 2)
    assert [one["id"] for one in await data(http, "GET", "/api/v1/gateways?name_contains=supp")] == [made["id"]]
    await data(http, "DELETE", path)
    assert (await http.get(path)).status_code == 404


async def test_a_list_is_read_page_by_page(http: httpx.AsyncClient) -> None:
    for number in range(5):
        await data(http, "POST", "/api/v1/keys", json={"kind": "private", "label": f"k{number}"})
    labels, token = [], ""
    while True:
        page = (await http.get("/api/v1/keys", params={"page_size": 2, "page_token": token})).json()
        labels += [key["label"] for key in page["data"]]
        token = page["next_page_token"]
        if not token:
            break
    assert [label for label in labels if label.startswith("k")] == ["k4", "k3", "k2", "k1", "k0"]
    bad = await http.get("/api/v1/keys?page_token=nothing")
    assert (bad.status_code, bad.json()["details"]["param"]) == (400, "page_token")


@pytest.mark.parametrize("path", ["/api/v1/keys", "/api/v1/accounts", "/api/v1/gateways"])
async def test_without_a_key_every_shape_is_its_apis(http: httpx.AsyncClient, path: str) -> None:
    refused = await http.get(path, headers={"authorization": ""})
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == 'Bearer realm="headgate"'
    assert set(refused.json()) == {"error", "details"}


async def test_the_records_are_a_document_of_their_own(http: httpx.AsyncClient) -> None:
    exported = await http.get("/api/v1/usage/export")
    assert (exported.status_code, exported.headers["content-type"]) == (200, "text/csv; charset=utf-8")
    assert exported.text.splitlines()[0].split(",")[0] == "start_time"
