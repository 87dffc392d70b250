"""The names under which a caller of OpenAI's dialect is told what a model thought, and those that it sends it back by."""

from typing import Any

import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient

from gateway_core.config import Config
from headgate_cli.serve import bridge_config
from tests.conftest import lab_config
from tests.support.gateway import running
from tests.support.openai_vendor import completion, event
from tests.support.upstream import Upstream, json_answer, sse_answer

HI: list[Any] = [{"role": "user", "content": "hi"}]
NAMES = ("reasoning", "reasoning_content")
BOTH = {"reasoning": "Hm.", "reasoning_content": "Hm."}


@pytest.mark.parametrize("vendor", NAMES)
@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("both", BOTH),
        ("reasoning", {"reasoning": "Hm."}),
        ("reasoning_content", {"reasoning_content": "Hm."}),
    ],
)
async def test_reasoning_is_told_under_the_names_that_are_configured(
    upstream: Upstream, output: str, told: dict[str, str], vendor: str
) -> None:
    chunks = [event({"role": "assistant", vendor: "Hm."}), event({"content": "Yes"}), event({}, "stop")]
    upstream.script(json_answer(completion({"content": "Yes", vendor: "Hm."})), sse_answer(chunks))
    config = Config.model_validate({**lab_config(upstream.base_url).model_dump(), "reasoning_output": output})
    async with (
        running(config, bridge=bridge_config(config)) as gateway,
        DefaultAsyncHttpxClient(trust_env=False) as http,
    ):
        sdk = AsyncOpenAI(base_url=f"{gateway.http_url}/v1", api_key="k", max_retries=0, http_client=http)
        message = (await sdk.chat.completions.create(model="lab/tiny", messages=HI)).choices[0].message
        stream = await sdk.chat.completions.create(model="lab/tiny", messages=HI, stream=True)
        deltas = [chunk.choices[0].delta for chunk in [chunk async for chunk in stream] if chunk.choices]
    for said in (message.model_dump(), deltas[0].model_dump()):
        assert {name: said[name] for name in NAMES if said.get(name)} == told
    assert not any(delta.model_dump().get(name) for delta in deltas[1:] for name in NAMES)


@pytest.mark.parametrize("sent", [{"reasoning": "Hm."}, {"reasoning_content": "Hm."}, BOTH], ids=str)
async def test_reasoning_is_taken_back_under_either_name(sdk: AsyncOpenAI, upstream: Upstream, sent: Any) -> None:
    upstream.script(json_answer(completion({"content": "Yes"})))
    talk = [*HI, {"role": "assistant", "content": "Yes", **sent}, *HI]
    await sdk.chat.completions.create(model="lab/tiny", messages=talk)
    told = (await upstream.received()).json()["messages"][1]
    assert told == {"role": "assistant", "content": "Yes", "reasoning_content": "Hm."}
