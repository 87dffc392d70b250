"""Which models a caller is shown: those that it may ask, and no others, over every API."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode, aio
from headgate.v1 import key_pb2
from headgate.v1.account_pb2 import Account
from headgate.v1.account_service_pb2 import CreateAccountRequest, UpdateAccountRequest
from headgate.v1.account_service_pb2_grpc import AccountServiceStub
from headgate.v1.gateway_pb2 import Gateway as GatewayMessage
from headgate.v1.gateway_pb2 import OwnEndpoint
from headgate.v1.gateway_service_pb2 import CreateGatewayRequest
from headgate.v1.key_service_pb2 import CreateKeyRequest
from headgate.v1.key_service_pb2_grpc import KeyServiceStub
from headgate.v1.model_service_pb2 import GetModelRequest, ListModelsRequest
from headgate.v1.model_service_pb2_grpc import ModelServiceStub
from openai import NotFoundError, PermissionDeniedError

from tests.support.kept import ROOT, Kept, bearer, kept
from tests.support.upstream import Upstream, json_answer

TARGETS = [{"provider": "lab", "model": "tiny"}]
MODELS = {
    "small": {
        "targets": TARGETS,
        "context_length": 1000,
        "price_class": "low",
        "price": {"input_per_million": "0", "output_per_million": "0.00"},
    },
    "large": {"targets": TARGETS},
}
PLANS = {
    "cheap": {"allowed_price_classes": ["low"]},
    "little": {"allowed_models": ["small"]},
    "none": {"allowed_models": ["nix"]},
}
HI: list[Any] = [{"role": "user", "content": "Hi"}]
ANSWER = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "tiny",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
}


@dataclass
class World:
    """An account with gateways on both models and on an endpoint of its own, and keys of it and of others."""

    kept: Kept
    secrets: dict[str, str]
    slugs: dict[str, str]
    ids: dict[str, str]

    async def listed(self, who: str) -> set[str]:
        """What OpenAI's SDK lists; the slugs by the names of their gateways."""
        names = {slug: name for name, slug in self.slugs.items()}
        found = [model.id async for model in self.kept.sdk_of(self.secrets[who]).models.list()]
        assert len(found) == len(set(found))
        return {names.get(name, name) for name in found} - {"echo/echo"}


@pytest.fixture
async def world(upstream: Upstream, tmp_path: Path) -> AsyncIterator[World]:
    upstream.script(json_answer(ANSWER))
    async with kept(tmp_path, upstream, models=MODELS, plans=PLANS) as opened:
        accounts, keys = AccountServiceStub(opened.channel), KeyServiceStub(opened.channel)
        secrets, account_ids = {"root": ROOT}, dict[str, str]()

        async def account(name: str, **fields: Any) -> None:
            request = CreateAccountRequest(account=Account(name=name, **fields))
            made = await accounts.CreateAccount(request, metadata=bearer(ROOT))
            secrets[name], account_ids[name] = made.secret, made.account.id

        await account("ann")
        await account("planned")
        await account("poor", plan="none")
        await account("thrifty", plan="cheap")
        await account("bounded", allowed_models=["large"])

        slugs, ids = {}, {}
        own = OwnEndpoint(base_url=upstream.base_url, model="mine")
        for owner in ("ann", "planned"):
            for name, fields in (("s", {"model": "small"}), ("l", {"model": "large"}), ("o", {"endpoint": own})):
                message: Any = GatewayMessage(name=f"{owner} {name}", **fields)
                wished = CreateGatewayRequest(gateway=message)
                made = (await opened.gateways.CreateGateway(wished, metadata=bearer(secrets[owner]))).gateway
                slugs[made.name], ids[made.name] = made.slug, made.id
        # Only now: with the plan it makes no gateway on what it may not ask.
        planned = UpdateAccountRequest(account=Account(id=account_ids["planned"], plan="little"))
        await accounts.UpdateAccount(planned, metadata=bearer(ROOT))
        for label, allowed in (("only small", ["small"]), ("only slug", [slugs["ann l"]]), ("only id", [ids["ann o"]])):
            key = CreateKeyRequest(label=label, kind=key_pb2.KEY_KIND_PRIVATE, allowed_models=allowed)
            secrets[label] = (await keys.CreateKey(key, metadata=bearer(secrets["ann"]))).secret
        public = CreateKeyRequest(label="web", kind=key_pb2.KEY_KIND_PUBLIC)
        secrets["public"] = (await keys.CreateKey(public, metadata=bearer(secrets["ann"]))).secret
        yield World(opened, secrets, slugs, ids)


SHOWN = {
    "root": {"small", "large"},
    "ann": {"small", "large", "ann s", "ann l", "ann o"},
    "only small": {"small", "ann s"},
    "only slug": {"ann l"},
    "only id": {"ann o"},
    "bounded": {"large"},
    "planned": {"small", "planned s"},
    "poor": set(),
    "thrifty": {"small"},
}


async def test_a_caller_is_shown_what_it_may_ask(world: World) -> None:
    assert {who: await world.listed(who) for who in SHOWN} == SHOWN


async def test_what_is_shown_can_be_asked_and_what_is_not_shown_cannot(world: World) -> None:
    every = {"small": "small", "large": "large", **world.slugs}
    for who, shown in SHOWN.items():
        sdk = world.kept.sdk_of(world.secrets[who])
        for name, model in every.items():
            if name in shown:
                await sdk.models.retrieve(model)
                await sdk.chat.completions.create(model=model, messages=HI)
            else:
                with pytest.raises(NotFoundError) as unknown:
                    await sdk.models.retrieve(model)
                assert unknown.value.code == "model_not_found"
                with pytest.raises((NotFoundError, PermissionDeniedError)):
                    await sdk.chat.completions.create(model=model, messages=HI)


async def test_a_gateway_is_told_of_by_its_id_too(world: World) -> None:
    model = await world.kept.sdk_of(world.secrets["only id"]).models.retrieve(world.ids["ann o"])
    assert model.id == world.slugs["ann o"]
    with pytest.raises(NotFoundError):
        await world.kept.sdk_of(world.secrets["only id"]).models.retrieve(world.ids["ann l"])


async def test_a_model_that_may_not_be_asked_looks_like_one_that_is_not_there(world: World) -> None:
    sdk = world.kept.sdk_of(world.secrets["only small"])
    told = []
    for name in ("large", "larga"):
        with pytest.raises(NotFoundError) as unknown:
            await sdk.models.retrieve(name)
        told.append(str(unknown.value).replace(name, "it"))
    assert told[0] == told[1]


async def test_openais_sdk_reads_what_is_known_of_a_model_and_of_the_gateways_before_it(world: World) -> None:
    known = {"context_length": 1000, "pricing": {"prompt": "0", "completion": "0"}}
    sdk = world.kept.sdk_of(world.secrets["ann"])
    found = {model.id: model.model_extra async for model in sdk.models.list()}
    assert found["small"] == found[world.slugs["ann s"]] == known
    assert found["large"] == found[world.slugs["ann o"]] == {}


async def test_grpc_and_ollama_show_the_same(world: World) -> None:
    metadata = bearer(world.secrets["only small"])
    shown = {"small", world.slugs["ann s"]}
    stub = ModelServiceStub(world.kept.channel)
    listed = await stub.ListModels(ListModelsRequest(), metadata=metadata)
    assert {model.id for model in listed.models} == shown
    with pytest.raises(aio.AioRpcError) as unknown:
        await stub.GetModel(GetModelRequest(id="large"), metadata=metadata)
    assert unknown.value.code() is StatusCode.NOT_FOUND

    url = world.kept.gateway.http_url
    headers = {"authorization": f"Bearer {world.secrets['only small']}"}
    http = world.kept.sdk._client
    tags = await http.get(f"{url}/api/tags", headers=headers)
    assert {model["name"] for model in tags.json()["models"]} == shown
    show = await http.post(f"{url}/api/show", json={"model": "large"}, headers=headers)
    assert (show.status_code, show.json()) == (404, {"error": "model 'large' not found"})


async def test_a_public_key_is_shown_nothing(world: World) -> None:
    with pytest.raises(PermissionDeniedError):
        await world.listed("public")
