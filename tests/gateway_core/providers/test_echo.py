import pytest
from headgate.v1.chat_completion_pb2 import ChatCompletion as Completion
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ROLE_ASSISTANT, ROLE_SYSTEM, ROLE_USER

from gateway_core.call import Call, Target
from gateway_core.completion import fold
from gateway_core.config import ProviderConfig
from gateway_core.providers.echo import Provider
from gateway_core.services.chat_completion import ChatCompletion


async def said(spec: ChatCompletionSpec, *, stream: bool = True) -> tuple[Completion, list[str]]:
    provider = Provider("echo", ProviderConfig(kind="echo"))
    call = Call("id", ChatCompletion(), spec, stream=stream, target=Target("echo", "echo"))
    events = [event async for event in await provider.open_chat_completion(call)]
    return fold(events), [rewrite.name for rewrite in call.rewrites]


def asked(text: str, **fields: object) -> ChatCompletionSpec:
    messages = [{"role": ROLE_SYSTEM, "text": "Be brief."}, {"role": ROLE_USER, "text": text}]
    return ChatCompletionSpec(model="echo", messages=messages, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("text", ["Hello, Headgate!", "", " \n ", "one  two\n\nthree ", "日本語 テキスト", "x"])
async def test_it_says_what_it_was_told_to_the_letter(text: str, stream: bool) -> None:
    answer, _ = await said(asked(text), stream=stream)
    assert answer.choices[0].message.content == text
    assert answer.choices[0].message.role == ROLE_ASSISTANT
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("stream", [True, False])
async def test_it_honours_the_limit_the_stops_and_the_number_of_answers(stream: bool) -> None:
    answer, warned = await said(asked("one two three four", max_tokens=2, n=2), stream=stream)
    assert [choice.message.content for choice in answer.choices] == ["one two", "one two"]
    assert [choice.finish_reason for choice in answer.choices] == ["length", "length"]
    assert answer.usage.completion_tokens == 4
    answer, _ = await said(asked("one two three", stop=["two"]), stream=stream)
    assert answer.choices[0].message.content == "one "
    answer, _ = await said(asked("world", prefill="Hello, "), stream=stream)
    assert answer.choices[0].message.content == "Hello, world"
    assert warned == []


async def test_it_says_what_it_does_not_honour() -> None:
    _, warned = await said(asked("x", reasoning_effort="low", logprobs=True, extra_json='{"wibble":1}'))
    assert warned == ["logprobs", "reasoning_effort", "wibble"]


async def test_it_says_that_it_echoes_text_only() -> None:
    parts = [{"text": "Hello"}, {"image_url": {"url": "https://x.test/cat.png"}}]
    spec = ChatCompletionSpec(model="echo", messages=[{"role": ROLE_USER, "parts": {"parts": parts}}])
    answer, warned = await said(spec)
    assert answer.choices[0].message.content == "Hello"
    assert warned == ["messages"]
