"""Every documented field of OpenAI's API, and every unknown one, goes through the contract and comes out again."""

from typing import Any

import orjson
import pytest
from google.protobuf.message import Message
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_core.chat import read
from gateway_core.completion import fold
from gateway_core.config import ProviderConfig
from gateway_core.providers.openai.decoder import Decoder
from gateway_core.providers.openai.request import request_document
from gateway_core.upstream.refusal import Refusals
from gateway_core.upstream.sse import Event
from rest_bridge.dialects.openai.request import chat_completion_spec
from rest_bridge.dialects.openai.response import ChunkWriter, completion_document
from tests.support.openai_documents import (
    ANSWER,
    REQUEST,
    Document,
    answers,
    documented_requests,
    fullest,
    json_values,
    members,
    requests,
)

# What an answer has beside what the contract names: carried as JSON.
CARRIED_IN_ANSWERS = {"metadata", "moderation"}

FULLEST_REQUESTS = list(fullest(REQUEST))
FULLEST_ANSWERS = list(fullest(ANSWER))


def through(document: Document) -> Document:
    """What the vendor is asked for a caller's request, after a way over the wire."""
    spec = chat_completion_spec(orjson.loads(orjson.dumps(document)))
    spec = type(spec).FromString(spec.SerializeToString())
    sent = orjson.loads(orjson.dumps({**request_document(read(spec), stream=False), "model": document["model"]}))
    assert isinstance(sent, dict)
    return sent


def expected(document: Document) -> Document:
    """A request as it is sent: what is about streaming is the provider's, and one stop is a list of one."""
    document = {name: value for name, value in document.items() if name not in ("stream", "stream_options")}
    if isinstance(document.get("stop"), str):
        document["stop"] = [document["stop"]]
    return document


def decoder() -> Decoder:
    return Decoder(Refusals("lab", ProviderConfig(kind="openai", base_url="http://127.0.0.1:1/v1")), "test", 1)


def said(reader: Decoder, document: Document) -> ChatCompletionChunk:
    chunk = reader.event(Event("message", orjson.dumps(document)))
    assert chunk is not None
    return chunk


def answered(document: Document) -> Document:
    """What the caller is answered for a vendor's answer, after a way over the wire."""
    completion = fold([decoder().whole(orjson.dumps(document))])
    completion = type(completion).FromString(completion.SerializeToString())
    answer = orjson.loads(orjson.dumps(completion_document(completion)))
    assert isinstance(answer, dict)
    return answer


def numbered(document: Document) -> Document:
    """An answer whose choices have positions of their own, as all vendors' have."""
    choices = [{**choice, "index": position} for position, choice in enumerate(document["choices"])]
    return {**document, "choices": choices}


def normal(document: Document) -> Document:
    """An answer with what OpenAI writes where there is nothing."""
    document = {name: value for name, value in document.items() if value is not None}
    choices = []
    for choice in document["choices"]:
        message = {"content": None, "refusal": None, "annotations": [], **without_nulls(choice["message"])}
        logprobs = choice.get("logprobs")
        if logprobs is not None:
            logprobs = {**logprobs, "content": normal_tokens(logprobs, "content")}
            logprobs["refusal"] = normal_tokens(logprobs, "refusal")
        choices.append({**choice, "message": message, "logprobs": logprobs})
    return {**document, "choices": choices}


def normal_tokens(logprobs: Document, name: str) -> list[Document] | None:
    tokens = logprobs.get(name)
    return (
        None
        if tokens is None
        else [
            {"bytes": None, **token, "top_logprobs": [{"bytes": None, **top} for top in token["top_logprobs"]]}
            for token in tokens
        ]
    )


def without_nulls(document: Document) -> Document:
    return {name: value for name, value in document.items() if value is not None}


def carried(message: Message, path: str = "") -> list[str]:
    """The paths at which a message carries JSON that nobody reads."""
    found = []
    for field, value in message.ListFields():
        where = f"{path}.{field.name}"
        if field.name in ("extra_json", "other_json"):
            found.append(f"{where}: {value}")
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for inner in value if field.is_repeated else [value]:
                found += carried(inner, where)
    return found


@given(requests)
@settings(deadline=None)
def test_a_request_with_unknown_fields_everywhere_reaches_the_vendor_unchanged(document: Document) -> None:
    assert through(document) == expected(document)


@given(documented_requests)
@settings(deadline=None)
def test_every_documented_request_is_typed_in_the_contract(document: Document) -> None:
    assert carried(chat_completion_spec(document)) == []


@pytest.mark.parametrize("document", FULLEST_REQUESTS[:20], ids=range(20))
def test_every_documented_field_in_every_form_is_typed_and_reaches_the_vendor(document: Document) -> None:
    assert carried(chat_completion_spec(document)) == []
    assert through(document) == expected(document)


def test_the_documents_have_every_documented_field_of_a_request() -> None:
    assert {name for document in FULLEST_REQUESTS for name in document} == set(members(REQUEST))


@pytest.mark.parametrize("name", sorted(set(members(REQUEST)) - {"messages", "model"}))
def test_null_is_as_absent(name: str) -> None:
    document = FULLEST_REQUESTS[0]
    absent = {key: value for key, value in document.items() if key != name}
    assert chat_completion_spec({**document, name: None}) == chat_completion_spec(absent)


@pytest.mark.parametrize("name", ["tools", "functions", "stop", "modalities", "metadata", "logit_bias"])
def test_an_empty_list_or_map_is_as_absent(name: str) -> None:
    document = FULLEST_REQUESTS[0]
    absent = {key: value for key, value in document.items() if key != name}
    empty: Any = {} if name in ("metadata", "logit_bias") else []
    assert chat_completion_spec({**document, name: empty}) == chat_completion_spec(absent)


@given(answers.map(numbered))
@settings(deadline=None)
def test_an_answer_with_unknown_fields_everywhere_reaches_the_caller_unchanged(document: Document) -> None:
    assert normal(answered(document)) == normal(document)


@pytest.mark.parametrize("document", [numbered(each) for each in FULLEST_ANSWERS], ids=range(len(FULLEST_ANSWERS)))
def test_every_documented_field_of_an_answer_is_typed_and_reaches_the_caller(document: Document) -> None:
    named = {name: value for name, value in document.items() if name not in CARRIED_IN_ANSWERS}
    assert carried(decoder().whole(orjson.dumps(named))) == []
    assert answered(document) == document


@given(st.text(min_size=1), st.lists(st.tuples(st.text(min_size=1, max_size=5), st.text()), max_size=3), st.data())
@settings(deadline=None)
def test_an_answer_cut_into_any_deltas_is_the_same_answer(
    content: str, calls: list[tuple[str, str]], data: st.DataObject
) -> None:
    message: Document = {
        "role": "assistant",
        "content": content,
        "x_vendor": data.draw(json_values.filter(lambda value: value is not None)),
    }
    pieces: list[Document] = [{"role": "assistant", "content": "", "x_vendor": message["x_vendor"]}]
    pieces += [{"content": piece} for piece in cut(content, data)]
    for index, (name, arguments) in enumerate(calls):
        call = {"id": f"call_{index}", "type": "function", "function": {"name": name, "arguments": arguments}}
        message.setdefault("tool_calls", []).append(call)
        pieces.append({"tool_calls": [{**call, "index": index, "function": {"name": name, "arguments": ""}}]})
        pieces += [
            {"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in cut(arguments, data)
        ]
    head = {"id": "chatcmpl-1", "created": 1, "model": "tiny"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    whole = decoder().whole(orjson.dumps({**head, "choices": [choice]}))
    reader, writer = decoder(), ChunkWriter(include_usage=False)
    choices = [{"index": 0, "delta": piece} for piece in pieces] + [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    chunks = [said(reader, {**head, "choices": [choice]}) for choice in choices]
    assert fold(chunks) == fold([whole])
    written = [document for chunk in chunks for document in writer.write(chunk)] + writer.finish()
    again = decoder()
    assert fold(said(again, document) for document in written) == fold([whole])


def cut(text: str, data: st.DataObject) -> list[str]:
    places = sorted(data.draw(st.sets(st.integers(1, max(len(text) - 1, 1)), max_size=4)))
    return [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]
