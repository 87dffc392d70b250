"""Answers with a value in one place that no vendor sends: each provider reads them, or says that they are broken."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from headgate.v1.chat_completion_pb2 import ChatCompletion, ChatCompletionChunk

from gateway_core import errors
from gateway_core.completion import fold
from gateway_core.config import ProviderConfig
from gateway_core.providers.anthropic.decoder import Decoder as Anthropic
from gateway_core.providers.bedrock.decoder import Decoder as Bedrock
from gateway_core.providers.gemini.decoder import Decoder as Gemini
from gateway_core.providers.ollama.decoder import Decoder as Ollama
from gateway_core.providers.openai.decoder import Decoder as OpenAI
from gateway_core.upstream.depth import DEEPEST
from gateway_core.upstream.refusal import Refusals
from gateway_core.upstream.sse import Event
from tests.support import anthropic_vendor, bedrock_vendor, gemini_vendor, ollama_vendor
from tests.support.json_mutation import places

Document = dict[str, Any]
Whole = Callable[[bytes], ChatCompletionChunk]

REFUSALS = Refusals("lab", ProviderConfig(kind="openai", base_url="http://127.0.0.1:1"))


def tokens(depth: int) -> Document:
    """A token with alternatives that have alternatives."""
    token: Document = {"token": "a", "logprob": -1}
    for _ in range(depth - 1):
        token = {"token": "a", "logprob": -1, "top_logprobs": [token]}
    return token


def nested(depth: int) -> Any:
    """Objects inside each other."""
    value: Any = 1
    for _ in range(depth):
        value = {"text": value}
    return value


ODD: tuple[Any, ...] = (
    # Not 2**31, by which such a fault was found: to be read as a size it takes 2 GiB, and this fails at once.
    2**62,
    2**31, -(2**31) - 1, 2**63 - 1, 2**63, 2**64, -(2**63), 1e308, 5e-324, -0.0, 0.5, True, None,
    "", "\x00", "\ud800", "\udfff", "9" * 19, "9" * 5000, "²",
    [2**62], [256], [-1], [[]], [None], {"0": 1}, tokens(80), [tokens(DEEPEST // 2 - 1)], nested(DEEPEST - 10),
)  # fmt: skip
"""Numbers beyond what protobuf's have room for, halves of surrogate pairs, sizes, and what nests nearly too deep."""

TOKEN: Document = {**tokens(2), "bytes": [97]}
OPENAI: Document = {
    "id": "c", "created": 1, "model": "m", "service_tier": "default", "system_fingerprint": "f", "other": 1,
    "choices": [
        {
            "index": 0, "finish_reason": "stop", "other": 1, "logprobs": {"content": [TOKEN], "refusal": [TOKEN]},
            "message": {
                "role": "assistant", "content": "Hi", "reasoning": "hm", "refusal": "No.", "other": 1,
                "function_call": {"name": "f", "arguments": "{}"},
                "tool_calls": [
                    {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    {"index": 1, "id": "c2", "type": "custom", "custom": {"name": "f", "input": "i"}},
                    {"index": 2, "id": "c3", "type": "other"},
                ],
                "audio": {"id": "a", "data": "ZA==", "transcript": "t", "expires_at": 1},
                "annotations": [
                    {"type": "url_citation", "url_citation": {"url": "u", "title": "t", "start_index": 0, "end_index": 1}}
                ],
                "reasoning_details": [{"type": "reasoning.text", "id": "r", "index": 0, "text": "hm", "signature": "s"}],
            },
        }
    ],
    "usage": {
        "prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13, "other": 1,
        "prompt_tokens_details": {"cached_tokens": 1}, "completion_tokens_details": {"reasoning_tokens": 1},
    },
}  # fmt: skip
OLLAMA = ollama_vendor.ended(
    {
        **ollama_vendor.line("Hi", thinking="hm", calls=[ollama_vendor.called("f", "c1", a=1)]),
        "logprobs": [{**TOKEN, "top_logprobs": [TOKEN]}],
    }
)
GEMINI = gemini_vendor.document(
    gemini_vendor.thought("hm"),
    gemini_vendor.said("Hi"),
    gemini_vendor.called("f", "c1", "c2ln", a=1),
    {"inlineData": {"mimeType": "image/png", "data": "ZA=="}},
    {"inlineData": {"mimeType": "audio/wav", "data": "ZA=="}},
    finish="STOP",
)
GEMINI["candidates"][0] |= {
    "finishMessage": "m",
    "groundingMetadata": {
        "groundingChunks": [{"web": {"uri": "u", "title": "t"}}],
        "groundingSupports": [{"segment": {"startIndex": 0, "endIndex": 2}, "groundingChunkIndices": [0]}],
    },
    "logprobsResult": {
        "chosenCandidates": [{"token": "a", "logProbability": -1}],
        "topCandidates": [{"candidates": [{"token": "b", "logProbability": -1}]}],
    },
}
BEDROCK = bedrock_vendor.completion(
    {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}},
    {"reasoningContent": {"redactedContent": "ZW5j"}},
    {
        "citationsContent": {
            "content": [{"text": "Hi"}],
            "citations": [{"title": "t", "location": {"web": {"url": "u"}}}],
        }
    },
    {"toolUse": {"toolUseId": "t1", "name": "f", "input": {"a": 1}}},
    used=bedrock_vendor.usage(cacheReadInputTokens=3, cacheWriteInputTokens=2),
)
CITED = {"type": "web_search_result_location", "url": "u", "title": "t", "cited_text": "c"}
ANTHROPIC = anthropic_vendor.message(
    anthropic_vendor.thinking("hm", "sig"),
    anthropic_vendor.redacted("x"),
    {**anthropic_vendor.text("Hi"), "citations": [CITED]},
    anthropic_vendor.tool_use("t1", "f", a=1),
    {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"url": "u"}]},
    stop_details={"type": "refusal", "explanation": "No."},
)

PROVIDERS: dict[str, tuple[Document, Callable[[], Whole]]] = {
    "anthropic": (ANTHROPIC, lambda: Anthropic(REFUSALS, "r", 1).whole),
    "bedrock": (BEDROCK, lambda: Bedrock(REFUSALS, "r", "m", 1).whole),
    "gemini": (GEMINI, lambda: Gemini(REFUSALS, "r", 1, 1).whole),
    "ollama": (OLLAMA, lambda: Ollama(REFUSALS, "r").whole),
    "openai": (OPENAI, lambda: OpenAI(REFUSALS, "r", 1).whole),
}


def written(document: Any) -> bytes:
    """A document as JSON; what is no character as its bytes would be."""
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")


def read(whole: Whole, data: bytes) -> ChatCompletion:
    """The answer, once it was written and read as on its way to a caller."""
    event = whole(data)
    ChatCompletionChunk.FromString(event.SerializeToString())
    return ChatCompletion.FromString(fold([event]).SerializeToString())


@pytest.mark.parametrize("name", PROVIDERS)
def test_an_answer_with_one_odd_value_is_an_answer_or_broken(name: str) -> None:
    document, whole = PROVIDERS[name]
    assert read(whole(), written(document)).choices[0].message.content == "Hi"
    for place in range(len(places(document))):
        for value in ODD:
            changed = json.loads(json.dumps(document))
            node, key = places(changed)[place]
            node[key] = value
            for data in (written(changed), json.dumps(changed).encode()):
                with suppress(errors.ProviderError):
                    read(whole(), data)


@pytest.mark.parametrize("utf8", [2**62, 2**63, -1, 0.5, "97", {"97": 1}, [256], ["a"]], ids=str)
def test_bytes_of_a_token_that_are_no_list_of_bytes_are_broken(utf8: Any) -> None:
    document = ollama_vendor.ended({**ollama_vendor.line("Hi"), "logprobs": [{**TOKEN, "bytes": utf8}]})
    with pytest.raises(errors.ProviderBroken, match="makes no sense"):
        Ollama(REFUSALS, "r").whole(written(document))


@pytest.mark.parametrize("depth", [DEEPEST, 400, 1000])
def test_an_event_named_error_is_one_however_deep_it_nests(depth: int) -> None:
    told = b'{"message":' * depth + b'"No."' + b"}" * depth
    with pytest.raises(errors.ProviderError):
        OpenAI(REFUSALS, "r", 1).event(Event("error", told))
