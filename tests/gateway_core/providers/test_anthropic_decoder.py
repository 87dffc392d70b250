"""Whatever a vendor of Anthropic's format says, it is an answer or broken; and whatever is asked, it is written."""

import json
from contextlib import suppress
from itertools import pairwise
from random import Random
from typing import Any

import orjson
import pytest
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_core import errors
from gateway_core.completion import fold
from gateway_core.config import ProviderConfig
from gateway_core.known.models import ModelFacts, known_models
from gateway_core.providers.anthropic.carried import Carried
from gateway_core.providers.anthropic.decoder import Decoder
from gateway_core.providers.anthropic.facts import facts, table
from gateway_core.providers.anthropic.request import request_document
from gateway_core.upstream.closed_schema import clean_schema
from gateway_core.upstream.depth import DEEPEST
from gateway_core.upstream.refusal import Refusals
from gateway_core.upstream.sse import Event
from rest_bridge.dialects.openai.request import chat_completion_spec
from tests.support.anthropic_vendor import events, message, redacted, text, thinking, tool_use
from tests.support.json_mutation import mutate
from tests.support.openai_documents import json_values, requests

SEARCH = {"type": "web_search_tool_result", "tool_use_id": "s", "content": [{"type": "web_search_result", "url": "u"}]}
CITED = {"type": "web_search_result_location", "url": "u", "title": "t", "cited_text": "c", "encrypted_index": "e"}
FULL = message(
    thinking("Hm", "sig"), redacted("x"), {**text("Hi"), "citations": [CITED]}, tool_use("t1", "f", a=1), SEARCH,
    stop_reason="refusal", stop_details={"type": "refusal", "category": "bio", "explanation": "No."},
)  # fmt: skip

texts = st.text(max_size=12)
blocks = st.one_of(
    st.builds(text, texts),
    st.builds(thinking, texts, texts),
    st.builds(redacted, texts),
    st.dictionaries(texts, st.integers(-9, 9), max_size=2).map(
        lambda given: {"type": "tool_use", "id": "t", "name": "f", "input": given}
    ),
    st.just(SEARCH),
)


def decoder() -> Decoder:
    return Decoder(Refusals("lab", ProviderConfig(kind="anthropic", base_url="http://127.0.0.1:1")), "r", 1)


def streamed(said: dict[str, Any]) -> list[ChatCompletionChunk]:
    reader = decoder()
    found = [reader.event(Event(event["type"], orjson.dumps(event))) for event in events(said)]
    assert reader.is_done
    return [event for event in found if event is not None]


@given(content=st.lists(blocks, max_size=5), reason=st.sampled_from(["end_turn", "tool_use", "refusal", "novel"]))
@settings(deadline=None)
def test_a_stream_folded_is_the_whole_answer(content: list[dict[str, Any]], reason: str) -> None:
    said = message(*content, stop_reason=reason)
    assert fold(streamed(said)) == fold([decoder().whole(orjson.dumps(said))])


@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 4))
def test_whatever_a_whole_answer_holds_it_is_an_answer_or_broken(seed: int, count: int) -> None:
    random, document = Random(seed), json.loads(json.dumps(FULL))
    for _ in range(count):
        mutate(document, random)
    with suppress(errors.ProviderError):
        fold([decoder().whole(json.dumps(document).encode())])


@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 4))
def test_whatever_events_hold_they_are_an_answer_or_broken(seed: int, count: int) -> None:
    random, documents = Random(seed), json.loads(json.dumps(list(events(FULL))))
    for _ in range(count):
        mutate(documents, random)
    reader = decoder()
    with suppress(errors.ProviderError):
        fold(
            said
            for document in documents
            if (said := reader.event(Event("message", json.dumps(document).encode()))) is not None
        )


@pytest.mark.parametrize("depth", [DEEPEST + 1, 250, 400, 2000])
def test_an_input_in_pieces_that_nests_too_deep_to_be_written_again_is_broken(depth: int) -> None:
    begun, _, *_ = events(message(SEARCH))
    search = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    pieces = [{"type": "input_json_delta", "partial_json": bracket * depth} for bracket in "[]"]
    said = [
        begun,
        {"type": "content_block_start", "index": 0, "content_block": search},
        *({"type": "content_block_delta", "index": 0, "delta": piece} for piece in pieces),
    ]
    reader = decoder()
    for document in said:
        reader.event(Event("message", orjson.dumps(document)))
    with pytest.raises(errors.ProviderBroken, match="makes no sense"):
        reader.event(Event("message", orjson.dumps({"type": "content_block_stop", "index": 0})))


@given(requests)
@settings(deadline=None)
def test_whatever_is_asked_is_written_or_refused(document: dict[str, Any]) -> None:
    spec = chat_completion_spec(document)
    for model in ("claude-opus-5", "claude-haiku-4-5", "other"):
        with suppress(errors.InvalidRequest):
            written = request_document(spec, model, facts(model), Carried(spec.extra_format))
            orjson.dumps(written)
            roles = [turn["role"] for turn in written["messages"]]
            assert all(first != second for first, second in pairwise(roles))


@given(json_values)
def test_any_schema_is_cleaned_to_json(schema: Any) -> None:
    orjson.dumps(clean_schema(schema, set()))


def test_the_end_of_an_answer_tells_the_numbers_of_all_of_it() -> None:
    said = list(events(message(text("Hi"), usage={"input_tokens": 9, "output_tokens": 1})))
    said[-2]["usage"] = {"input_tokens": 12, "cache_read_input_tokens": 5, "output_tokens": 4}
    reader = decoder()
    found = [reader.event(Event("message", orjson.dumps(event))) for event in said]
    (used,) = [event.usage for event in found if event is not None and event.HasField("usage")]
    assert (used.prompt_tokens, used.completion_tokens, used.total_tokens) == (17, 4, 21)


def test_what_has_no_place_in_the_contract_is_carried_from_wherever_it_is_told() -> None:
    documents = list(events(FULL))
    documents[0]["message"]["diagnostics"] = {"a": 1}
    documents[-2]["context_management"] = {"applied_edits": []}
    reader = decoder()
    found = [reader.event(Event("message", orjson.dumps(each))) for each in documents]
    whole = {**FULL, "diagnostics": {"a": 1}, "context_management": {"applied_edits": []}}
    assert fold(each for each in found if each is not None) == fold([decoder().whole(orjson.dumps(whole))])


def test_a_call_that_came_whole_at_its_beginning_is_told_whole() -> None:
    documents = list(events(message(tool_use("t1", "f", a=1))))
    begun = next(each for each in documents if each["type"] == "content_block_start")
    begun["content_block"]["input"] = {"a": 1}
    reader = decoder()
    kept = [each for each in documents if each["type"] != "content_block_delta"]
    found = [reader.event(Event("message", orjson.dumps(each))) for each in kept]
    (call,) = fold(each for each in found if each is not None).choices[0].message.tool_calls
    assert call.function.arguments == '{"a":1}'


@pytest.mark.parametrize(
    ("model", "thinking_form", "most"),
    [
        ("claude-haiku-4-5-20251001", "budget", 64000),
        ("claude-sonnet-4-6", "adaptive", 128000),
        ("claude-opus-5-5", "adaptive", 128000),
        ("claude-novel-9", "adaptive", 128000),
        ("anthropic/claude-sonnet-4.5", "budget", 64000),
        ("claude-sonnet-4-20250514", "budget", 64000),
        ("deepseek-chat", "budget", 8192),
        ("", "budget", 8192),
    ],
)
def test_the_table_has_a_row_for_every_model(model: str, thinking_form: str, most: int) -> None:
    found = facts(model)
    assert (found.thinking, found.max_output_tokens) == (thinking_form, most)


def test_no_row_of_the_table_hides_another() -> None:
    names = [name for row in table() for name in row.names]
    for place, name in enumerate(names):
        assert not any(name.startswith(earlier) for earlier in names[:place])


KNOWN = [row for (host, _), row in known_models().items() if host == "anthropic"]


@pytest.mark.parametrize("row", KNOWN, ids=lambda row: row.model)
def test_the_table_says_what_the_table_of_known_models_says(row: ModelFacts) -> None:
    found = facts(row.model)
    assert found.max_output_tokens == row.max_output_tokens
    assert found.takes_prefill == ("prefill" in row.features)
    assert found.takes_json_schema == ("json_schema" in row.features)
    assert found.takes_sampling == ("temperature" not in row.unsupported_parameters)
