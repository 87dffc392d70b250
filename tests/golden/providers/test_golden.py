"""Golden files of the providers, one body over all of them: a folder is a provider, and a row of FORMATS.

HEADGATE_GOLDEN=write rewrites what comes out. What goes in is written by hand: <case>.request.txtpb is what is asked, in
the contract's form; <case>.answer.json and <case>.answer.<suffix> are what a vendor answers, whole and streamed.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from google.protobuf import text_format
from headgate.v1.chat_completion_pb2 import ChatCompletion, ChatCompletionChunk
from headgate.v1.chat_pb2 import ChatCompletionSpec

from gateway_core.completion import fold
from gateway_core.config import ProviderConfig
from gateway_core.providers.anthropic import decoder as anthropic_decoder
from gateway_core.providers.anthropic import request as anthropic_request
from gateway_core.providers.anthropic.carried import Carried
from gateway_core.providers.anthropic.facts import facts
from gateway_core.providers.bedrock import decoder as bedrock_decoder
from gateway_core.providers.bedrock import request as bedrock_request
from gateway_core.providers.gemini import decoder as gemini_decoder
from gateway_core.providers.gemini import request as gemini_request
from gateway_core.providers.gemini.family import family
from gateway_core.providers.ollama import decoder as ollama_decoder
from gateway_core.providers.ollama import request as ollama_request
from gateway_core.upstream.event_stream import MessageReader
from gateway_core.upstream.ndjson import LineReader
from gateway_core.upstream.refusal import Refusals
from gateway_core.upstream.sse import EventReader
from tests.support.event_stream import event

HERE = Path(__file__).parent
SEPARATOR = "---\n"
LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Format:
    """What a provider makes of a request and of an answer, without the connection between them."""

    suffix: str
    """Of the files with streamed answers."""
    request: Callable[[ChatCompletionSpec], Any]
    """The body of a streamed request, decoded."""
    decoder: Callable[[Refusals], Any]
    """What has `event`, `whole` and `is_whole`."""
    reader: Callable[[], Any]
    """What has `feed` and `finish`."""
    encoded: Callable[[bytes], bytes] = bytes
    """What is sent for a file with a streamed answer, where that is not the file itself."""


def event_stream(text: bytes) -> bytes:
    """Bedrock's binary stream for lines of JSON, each an object with one event by its type."""
    return b"".join(event(*item) for line in text.splitlines() for item in orjson.loads(line).items())


FORMATS = {
    "anthropic": Format(
        "sse",
        lambda spec: anthropic_request.request_document(
            spec, spec.model, facts(spec.model), Carried(spec.extra_format)
        ),
        lambda refusals: anthropic_decoder.Decoder(refusals, "golden", 1_800_000_000),
        lambda: EventReader(LIMIT, "lab"),
    ),
    "bedrock": Format(
        "jsonl",
        lambda spec: bedrock_request.written(spec, spec.model).document,
        lambda refusals: bedrock_decoder.Decoder(refusals, "golden", "tiny", 1_800_000_000),
        lambda: MessageReader(LIMIT, "lab"),
        event_stream,
    ),
    "gemini": Format(
        "sse",
        lambda spec: gemini_request.request_document(spec, family(spec.model)),
        lambda refusals: gemini_decoder.Decoder(refusals, "golden", 1, 1_800_000_000),
        lambda: EventReader(LIMIT, "lab"),
    ),
    "ollama": Format(
        "ndjson",
        lambda spec: ollama_request.written(spec, "tiny", stream=True).document,
        lambda refusals: ollama_decoder.Decoder(refusals, "golden"),
        lambda: LineReader(LIMIT, "lab"),
    ),
}


def cases(pattern: str) -> pytest.MarkDecorator:
    """The cases that have a file, by provider."""
    found = [(kind, path.name.partition(".")[0]) for kind in FORMATS for path in sorted((HERE / kind).glob(pattern))]
    return pytest.mark.parametrize(("kind", "case"), found)


every_request = cases("*.request.txtpb")
every_answer = cases("*.answer.json")


def expect(path: Path, found: str) -> None:
    if os.environ.get("HEADGATE_GOLDEN") == "write":
        path.write_text(found, encoding="utf-8", newline="")
    assert path.read_text(encoding="utf-8") == found


def decoder(kind: str) -> Any:
    refusals = Refusals("lab", ProviderConfig(kind="openai", base_url="http://127.0.0.1:1"))
    return FORMATS[kind].decoder(refusals)


def decoded(kind: str, pieces: Iterable[bytes]) -> list[ChatCompletionChunk]:
    reader, answer = FORMATS[kind].reader(), decoder(kind)
    events = [event for piece in pieces for event in reader.feed(piece)] + list(reader.finish())
    chunks = [chunk for event in events if (chunk := answer.event(event)) is not None]
    assert answer.is_whole
    return chunks


def stream(kind: str, case: str) -> bytes:
    file = HERE / kind / f"{case}.answer.{FORMATS[kind].suffix}"
    return FORMATS[kind].encoded(file.read_bytes())


def whole(kind: str, case: str) -> ChatCompletion:
    return fold([decoder(kind).whole((HERE / kind / f"{case}.answer.json").read_bytes())])


@every_request
def test_a_spec_becomes_the_request_to_the_vendor(kind: str, case: str) -> None:
    path = HERE / kind / f"{case}.request.txtpb"
    spec = text_format.Parse(path.read_text(encoding="utf-8"), ChatCompletionSpec())
    document = FORMATS[kind].request(spec)
    expect(
        HERE / kind / f"{case}.upstream_request.json",
        orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n",
    )


@every_answer
def test_a_vendors_stream_becomes_its_events(kind: str, case: str) -> None:
    chunks = decoded(kind, [stream(kind, case)])
    shown = SEPARATOR.join(text_format.MessageToString(chunk, as_utf8=True) for chunk in chunks)
    expect(HERE / kind / f"{case}.events.txtpb", shown)


@every_answer
def test_a_stream_folded_is_the_whole_answer(kind: str, case: str) -> None:
    assert fold(decoded(kind, [stream(kind, case)])) == whole(kind, case)


@every_answer
def test_a_stream_cut_anywhere_gives_the_same_events(kind: str, case: str) -> None:
    data = stream(kind, case)
    expected = decoded(kind, [data])
    for position in range(1, len(data)):
        assert decoded(kind, [data[:position], data[position:]]) == expected, position
    assert decoded(kind, [data[at : at + 1] for at in range(len(data))]) == expected
