"""Answers of Bedrock that something was done to: an error of the provider, or an answer, and never anything else."""

import json
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.completion import fold
from gateway_core.config import ProviderConfig
from gateway_core.errors import ProviderBroken, ProviderError
from gateway_core.providers.bedrock.decoder import Decoder
from gateway_core.upstream.event_stream import Message, MessageReader
from gateway_core.upstream.refusal import Refusals
from tests.support.bedrock_vendor import called, completion, events, said, thought, usage
from tests.support.event_stream import event
from tests.support.json_mutation import mutate

REFUSALS = Refusals("lab", ProviderConfig(kind="openai", base_url="http://127.0.0.1:1"))
USED = usage(9, 4, cacheReadInputTokens=3, cacheWriteInputTokens=2)
WEB = {"title": "t", "location": {"web": {"url": "https://example.org"}}}
ENCRYPTED = {"reasoningContent": {"redactedContent": "ZW5j"}}
WHOLE = completion(
    {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}},
    ENCRYPTED,
    {"citationsContent": {"content": [{"text": "Hi"}], "citations": [WEB]}},
    {"toolUse": {"toolUseId": "t1", "name": "now", "input": {"a": [1]}}},
    stop="tool_use",
    used=USED,
)
STREAM = events(
    thought("Hm.", signature="c2ln"),
    [("contentBlockDelta", {"delta": ENCRYPTED})],
    [*said("H", "i"), ("contentBlockDelta", {"delta": {"citation": WEB}})],
    called("now", "t1", '{"a"', ":[1]}"),
    called("now", "t2"),
    stop="tool_use",
    used=USED,
)


def decoder() -> Decoder:
    return Decoder(REFUSALS, "r1", "tiny", 1)


def streamed(data: bytes) -> list[ChatCompletionChunk]:
    reader, answer = MessageReader(1 << 20, "lab"), decoder()
    found = [said for message in reader.feed(data) if (said := answer.event(message)) is not None]
    if not answer.is_whole:
        raise REFUSALS.broken("broke off")
    return found


@given(seed=st.integers(0, 2**32), count=st.integers(1, 4))
def test_a_whole_answer_with_something_wrong_is_an_answer_or_an_error(seed: int, count: int) -> None:
    random, document = Random(seed), json.loads(json.dumps(WHOLE))
    for _ in range(count):
        mutate(document, random)
    with suppress(ProviderError):
        fold([decoder().whole(json.dumps(document).encode())])


@given(seed=st.integers(0, 2**32), count=st.integers(1, 4))
def test_a_stream_with_something_wrong_is_an_answer_or_an_error(seed: int, count: int) -> None:
    random, documents = Random(seed), json.loads(json.dumps([document for _, document in STREAM]))
    for _ in range(count):
        mutate(documents, random)
    data = b"".join(event(kind, document) for (kind, _), document in zip(STREAM, documents, strict=False))
    with suppress(ProviderError):
        fold(streamed(data))


def test_a_stream_cut_anywhere_before_its_end_is_an_error() -> None:
    data = b"".join(event(*each) for each in STREAM)
    end = len(data) - len(event(*STREAM[-1]))
    for position in range(end):
        with pytest.raises(ProviderBroken):
            streamed(data[:position])
    for position in (end, end + 5, len(data)):
        assert streamed(data[:position])[-1]


def test_a_stream_without_one_of_its_messages_is_never_more_than_it_was() -> None:
    for left_out in range(len(STREAM)):
        data = b"".join(event(*each) for place, each in enumerate(STREAM) if place != left_out)
        with suppress(ProviderBroken):
            message = fold(streamed(data)).choices[0].message
            assert "Hi".startswith(message.content) or message.content == "i"


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'"a"', b"\xff", b"[" * 300 + b"]" * 300])
def test_what_is_no_json_object_is_broken(data: bytes) -> None:
    with pytest.raises(ProviderBroken):
        decoder().whole(data)
    with pytest.raises(ProviderBroken):
        decoder().event(Message({":message-type": "event", ":event-type": "messageStop"}, data))


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        ("contentBlockDelta", {"delta": {"text": "a"}}),
        ("contentBlockDelta", {"contentBlockIndex": -1, "delta": {"text": "a"}}),
        ("contentBlockDelta", {"contentBlockIndex": True, "delta": {"text": "a"}}),
        ("contentBlockDelta", {"contentBlockIndex": 0}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": 1}}),
        ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"reasoningContent": {"redactedContent": "%"}}}),
        ("contentBlockStart", {"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "t"}}}),
        ("messageStop", {}),
        ("metadata", {"usage": []}),
    ],
)
def test_an_event_that_makes_no_sense_is_broken(kind: str, document: Any) -> None:
    with pytest.raises(ProviderBroken, match="makes no sense"):
        streamed(event(kind, document))


@pytest.mark.parametrize("used", [{}, {"inputTokens": "9"}, {"inputTokens": -1}, {"inputTokens": 2**70}, {"a": None}])
def test_counts_that_are_none_are_nothing(used: Any) -> None:
    assert (
        decoder().whole(json.dumps(completion({"text": "a"}, used={"x": 1, **used})).encode()).usage.prompt_tokens == 0
    )


def test_tokens_of_the_cache_for_which_the_others_have_no_room_are_counted_beside_them() -> None:
    used = {"inputTokens": 9, "outputTokens": 4, "totalTokens": 13, "cacheReadInputTokens": 1000}
    told = decoder().whole(json.dumps(completion({"text": "a"}, used=used)).encode()).usage
    assert (told.prompt_tokens, told.prompt_tokens_details.cached_tokens, told.total_tokens) == (1009, 1000, 1013)
