"""Golden files, hub and spoke: a caller's JSON ↔ the contract ↔ a vendor's JSON and SSE.

HEADGATE_GOLDEN=write rewrites what comes out. What goes in is written by hand: <case>.request.json is what a caller
sends; <case>.answer.json and <case>.answer.sse are what a vendor answers, whole and streamed.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest
from google.protobuf import text_format
from headgate.v1.chat_completion_pb2 import ChatCompletion, ChatCompletionChunk
from headgate.v1.chat_pb2 import ChatCompletionSpec

from gateway_core.chat import read
from gateway_core.completion import fold
from gateway_core.config import ProviderConfig
from gateway_core.providers.openai.decoder import Decoder
from gateway_core.providers.openai.request import request_document
from gateway_core.upstream.refusal import Refusals
from gateway_core.upstream.sse import EventReader
from rest_bridge.dialects.openai.request import chat_completion_spec, includes_usage
from rest_bridge.dialects.openai.response import ChunkWriter, completion_document

HERE = Path(__file__).parent
CASES = sorted(path.name.removesuffix(".request.json") for path in HERE.glob("*.request.json"))
SEPARATOR = "---\n"

every_case = pytest.mark.parametrize("case", CASES)


def expect(name: str, found: str) -> None:
    path = HERE / name
    if os.environ.get("HEADGATE_GOLDEN") == "write":
        path.write_text(found, encoding="utf-8", newline="")
    assert path.read_text(encoding="utf-8") == found


def indented(document: Any) -> str:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n"


def lines(documents: Iterable[Any]) -> str:
    return "".join(f"data: {orjson.dumps(document).decode()}\n\n" for document in documents) + "data: [DONE]\n\n"


def shown(message: Any) -> str:
    return text_format.MessageToString(message, as_utf8=True)


def request(case: str) -> dict[str, Any]:
    body = orjson.loads((HERE / f"{case}.request.json").read_bytes())
    assert isinstance(body, dict)
    return body


def decoder(case: str) -> Decoder:
    refusals = Refusals("lab", ProviderConfig(kind="openai", base_url="http://127.0.0.1:1/v1"))
    return Decoder(refusals, "golden", request(case).get("n", 1))


def decoded(case: str, pieces: Iterable[bytes]) -> list[ChatCompletionChunk]:
    reader, answer = EventReader(1 << 20, "lab"), decoder(case)
    events = [event for piece in pieces for event in reader.feed(piece)] + reader.finish()
    chunks = [chunk for event in events if (chunk := answer.event(event)) is not None]
    assert answer.is_whole
    return chunks


def streamed(case: str) -> list[ChatCompletionChunk]:
    return decoded(case, [(HERE / f"{case}.answer.sse").read_bytes()])


def whole(case: str) -> ChatCompletion:
    return fold([decoder(case).whole((HERE / f"{case}.answer.json").read_bytes())])


@every_case
def test_a_request_becomes_its_spec(case: str) -> None:
    expect(f"{case}.request.txtpb", shown(chat_completion_spec(request(case))))


@every_case
def test_a_spec_becomes_the_request_to_the_vendor(case: str) -> None:
    path = HERE / f"{case}.request.txtpb"
    spec = text_format.Parse(path.read_text(encoding="utf-8"), ChatCompletionSpec())
    document = {**request_document(read(spec), stream=True), "model": "tiny"}
    # The entries of a Protobuf map have no order.
    for name in {"logit_bias", "metadata"} & document.keys():
        document[name] = dict(sorted(document[name].items()))
    expect(f"{case}.upstream_request.json", indented(document))


@every_case
def test_a_vendors_stream_becomes_its_events(case: str) -> None:
    expect(f"{case}.events.txtpb", SEPARATOR.join(shown(chunk) for chunk in streamed(case)))


@every_case
def test_events_become_the_stream_of_the_caller(case: str) -> None:
    documents = (HERE / f"{case}.events.txtpb").read_text(encoding="utf-8").split(SEPARATOR)
    writer = ChunkWriter(includes_usage(request(case)))
    written = [
        document for text in documents for document in writer.write(text_format.Parse(text, ChatCompletionChunk()))
    ]
    expect(f"{case}.caller.sse", lines([*written, *writer.finish()]))


@every_case
def test_a_vendors_whole_answer_becomes_that_of_the_caller(case: str) -> None:
    expect(f"{case}.caller.json", indented(completion_document(whole(case))))


@every_case
def test_a_stream_folded_is_the_whole_answer(case: str) -> None:
    assert fold(streamed(case)) == whole(case)


@every_case
def test_what_a_caller_is_streamed_folded_is_what_it_is_answered_whole(case: str) -> None:
    # The caller's stream is a stream of the same format: read it as a vendor's.
    answered = decoder(case).whole((HERE / f"{case}.caller.json").read_bytes())
    assert fold(decoded(case, [(HERE / f"{case}.caller.sse").read_bytes()])) == fold([answered])


@every_case
def test_a_stream_cut_anywhere_gives_the_same_events(case: str) -> None:
    data = (HERE / f"{case}.answer.sse").read_bytes()
    expected = streamed(case)
    for position in range(1, len(data)):
        assert decoded(case, [data[:position], data[position:]]) == expected, position
    assert decoded(case, [data[at : at + 1] for at in range(len(data))]) == expected
