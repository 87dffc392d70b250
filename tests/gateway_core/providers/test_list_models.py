"""The lists of models of every provider that has one, where something is wrong with them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway_core.config import ProviderConfig
from gateway_core.errors import ProviderBroken, ProviderRefused
from gateway_core.providers import Provider, load
from gateway_core.upstream.depth import DEEPEST
from tests.support.upstream import Cut, Upstream, answer, json_answer

LISTS: dict[str, tuple[str, str]] = {
    "anthropic": ("data", "id"),
    "gemini": ("models", "name"),
    "ollama": ("models", "name"),
    "openai": ("data", "id"),
}
"""What the list, and what names a model in it, is called."""


def document(kind: str, **fields: Any) -> dict[str, Any]:
    """A list of one model."""
    name, identity = LISTS[kind]
    return {name: [{identity: "tiny", **fields}]}


@pytest.fixture(params=LISTS)
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of a provider that lists models."""
    chosen: str = request.param
    return chosen


@pytest.fixture
async def provider(kind: str, upstream: Upstream) -> AsyncIterator[Provider]:
    """The provider, of the scripted vendor."""
    made = load("lab", ProviderConfig.model_validate({"kind": kind, "base_url": upstream.base_url}))
    yield made
    await made.close()


async def test_what_is_told_of_a_model_beside_is_carried(kind: str, provider: Provider, upstream: Upstream) -> None:
    upstream.script(json_answer(document(kind, other=1)))
    (model,) = await provider.list_models()
    assert (model.id, json.loads(model.extra_json)) == ("tiny", {"other": 1})


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b"null", b"1"])
async def test_what_is_no_list_is_broken(provider: Provider, upstream: Upstream, body: bytes) -> None:
    upstream.script(answer([body]))
    with pytest.raises(ProviderBroken, match="a list of models that makes no sense"):
        await provider.list_models()


@pytest.mark.parametrize("depth", [DEEPEST, 300, 800])
async def test_a_list_that_nests_too_deep_to_be_written_again_is_broken(
    kind: str, provider: Provider, upstream: Upstream, depth: int
) -> None:
    written = json.dumps(document(kind, other="?")).replace('"?"', "[" * depth + "]" * depth)
    upstream.script(answer([written.encode()]))
    with pytest.raises(ProviderBroken, match="a list of models that makes no sense"):
        await provider.list_models()


async def test_a_refusal_and_a_list_that_breaks_off_are_told(provider: Provider, upstream: Upstream) -> None:
    upstream.script(json_answer({"error": {"message": "Later."}}, 503), answer([b'{"', Cut()]))
    with pytest.raises(ProviderRefused, match="Later"):
        await provider.list_models()
    with pytest.raises(ProviderBroken):
        await provider.list_models()
