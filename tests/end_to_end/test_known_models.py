"""What is known of a model, through a whole gateway: what it refuses, what it costs, what lists tell of it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI, BadRequestError

from gateway_core.config import Config
from tests.support.gateway import Arrangement, Gateway, running
from tests.support.kept import kept
from tests.support.openai_vendor import completion
from tests.support.upstream import Upstream, json_answer

HI: list[Any] = [{"role": "user", "content": "hi"}]


@pytest.fixture
async def gateway(upstream: Upstream, arrangement: Arrangement) -> AsyncIterator[Gateway]:
    """A whole gateway whose provider "openai" is a scripted vendor at which OpenAI's models are."""
    row = {"host": "openai", "base_url": upstream.base_url, "api_key": "sk-lab-secret", "lists_models": False}
    models = {
        "strict": {"targets": [{"provider": "openai", "model": "gpt-5"}], "on_unsupported": "reject"},
        "big": {"targets": [{"provider": "openai", "model": "gpt-5"}]},
    }
    async with running(Config.model_validate({"providers": {"openai": row}, "models": models}), arrangement) as started:
        yield started


async def test_a_temperature_that_a_model_refuses_is_dropped_and_told(sdk: AsyncOpenAI, upstream: Upstream) -> None:
    upstream.script(json_answer(completion({"content": "Hello"})))
    raw = await sdk.chat.completions.with_raw_response.create(
        model="openai/gpt-5", messages=HI, temperature=0.5, max_tokens=9
    )
    assert "temperature" in raw.headers["x-headgate-warning"]
    asked = (await upstream.received()).json()
    assert "temperature" not in asked
    # Its host calls the limit otherwise, which is no loss to tell of.
    assert asked["max_completion_tokens"] == 9
    assert "max_tokens" not in raw.headers["x-headgate-warning"]


@pytest.mark.parametrize(("effort", "sent"), [({}, False), ("low", False), ("none", True)], ids=str)
async def test_a_temperature_is_sent_to_a_model_that_takes_one_only_while_it_does_not_reason(
    sdk: AsyncOpenAI, upstream: Upstream, effort: Any, sent: bool
) -> None:
    upstream.script(json_answer(completion({"content": "Hello"})))
    more = {"reasoning_effort": effort} if effort else {}
    raw = await sdk.chat.completions.with_raw_response.create(
        model="openai/gpt-6-luna", messages=HI, temperature=0.5, **more
    )
    assert ("temperature" in (await upstream.received()).json()) == sent
    assert ("temperature" in raw.headers.get("x-headgate-warning", "")) != sent


async def test_a_temperature_that_a_model_refuses_is_refused_where_that_is_wished(
    sdk: AsyncOpenAI, upstream: Upstream
) -> None:
    with pytest.raises(BadRequestError, match="temperature is not supported"):
        await sdk.chat.completions.create(model="strict", messages=HI, temperature=0.5)
    assert upstream.requests == []


async def test_lists_tell_what_is_known(gateway: Gateway) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        listed = (await http.get(f"{gateway.http_url}/v1/models")).json()["data"]
        shown = (await http.post(f"{gateway.http_url}/api/show", json={"model": "big"})).json()
    (big,) = (model for model in listed if model["id"] == "big")
    assert (big["context_length"], big["facts_date"]) == (400_000, "2026-11-21")
    assert big["pricing"]["completion"] == "0.00001"
    assert "tools" in big["features"]
    assert "thinking" in shown["capabilities"]


@pytest.mark.parametrize("model", ["big", "openai/gpt-5", "openai/gpt-5-2025-08-07"])
async def test_a_call_costs_the_list_price_where_the_configuration_has_none(
    upstream: Upstream, tmp_path: Path, model: str
) -> None:
    row = {"host": "openai", "base_url": upstream.base_url, "lists_models": False}
    models = {
        "big": {"targets": [{"provider": "openai", "model": "gpt-5"}]},
        "small": {"targets": [{"provider": "openai", "model": "gpt-5"}, {"provider": "openai", "model": "mine"}]},
    }
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    upstream.script(json_answer(completion({"content": "Hello"}, usage=usage)))
    async with kept(tmp_path, upstream, providers={"openai": row}, models=models) as world:
        raw = await world.sdk.chat.completions.with_raw_response.create(model=model, messages=HI)
    # 1,000 tokens at $1.25 and 100 at $10 for a million.
    assert raw.headers["x-headgate-cost"] == "0.00225"
