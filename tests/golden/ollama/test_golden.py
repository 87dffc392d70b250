"""Golden files of the Ollama dialect: JSON ↔ contract, both ways. HEADGATE_GOLDEN=write rewrites what comes out."""

import os
from pathlib import Path
from typing import Any

import orjson
import pytest
from google.protobuf import text_format
from headgate.v1.chat_completion_pb2 import ChatCompletion, ChatCompletionChunk
from headgate.v1.chat_completion_service_pb2 import StreamChatCompletionResponse

from rest_bridge.dialects.ollama.request import chat_spec, generate_spec
from rest_bridge.dialects.ollama.response import (
    ChatWriter,
    ChunkWriter,
    GenerateWriter,
    Timing,
    completion_document,
)

HERE = Path(__file__).parent
REQUESTS = sorted((HERE / "requests").glob("*.json"))
ANSWERS = sorted((HERE / "answers").glob("*.events.txtpb"))
NOW_NS = 1_764_000_000_123_456_789
TIMING = Timing(total_ns=5_000_000, first_ns=2_000_000)


def expect(path: Path, found: str) -> None:
    if os.environ.get("HEADGATE_GOLDEN") == "write":
        path.write_text(found, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == found


def chunks(path: Path) -> list[ChatCompletionChunk]:
    documents = path.read_text(encoding="utf-8").split("---\n")
    return [text_format.Parse(document, StreamChatCompletionResponse()).chunk for document in documents]


def writer_for(path: Path) -> ChunkWriter:
    return GenerateWriter("small") if path.name.startswith("generate") else ChatWriter("small")


def streamed(path: Path) -> list[dict[str, Any]]:
    writer = writer_for(path)
    lines = [line for chunk in chunks(path) for line in writer.write(chunk, NOW_NS)]
    return lines + writer.finish(TIMING, NOW_NS)


def folded(path: Path) -> ChatCompletion:
    """The events of a case, folded by hand: what the core's unary answer is."""
    completion = ChatCompletion()
    choice = completion.choices.add()
    for chunk in chunks(path):
        if chunk.HasField("usage"):
            completion.usage.CopyFrom(chunk.usage)
        for part in (part for part in chunk.choices if part.index == 0):
            calls = {call.index: call for call in choice.message.tool_calls}
            for call in part.delta.tool_calls:
                if call.index in calls:
                    calls[call.index].function.arguments += call.function.arguments
                else:
                    choice.message.tool_calls.append(call)
            for name in ("content", "reasoning", "refusal"):
                if part.delta.HasField(name):
                    setattr(choice.message, name, getattr(choice.message, name) + getattr(part.delta, name))
            if part.HasField("logprobs"):
                choice.logprobs.MergeFrom(part.logprobs)
            if part.HasField("finish_reason"):
                choice.finish_reason = part.finish_reason
    return completion


@pytest.mark.parametrize("path", REQUESTS, ids=lambda path: path.stem)
def test_a_request_becomes_its_spec(path: Path) -> None:
    body = orjson.loads(path.read_bytes())
    spec = generate_spec(body) if path.name.startswith("generate") else chat_spec(body)
    expect(path.with_suffix(".txtpb"), text_format.MessageToString(spec, as_utf8=True))


@pytest.mark.parametrize("path", ANSWERS, ids=lambda path: path.stem)
def test_events_become_their_lines(path: Path) -> None:
    lines = "".join(orjson.dumps(line).decode() + "\n" for line in streamed(path))
    expect(path.with_name(path.name.replace(".events.txtpb", ".ndjson")), lines)


@pytest.mark.parametrize("path", ANSWERS, ids=lambda path: path.stem)
def test_the_lines_of_a_stream_folded_are_the_whole_answer(path: Path) -> None:
    whole = completion_document(writer_for(path), folded(path), TIMING, NOW_NS)
    assert writer_for(path).whole(streamed(path)) == whole
    expect(path.with_name(path.name.replace(".events.txtpb", ".json")), orjson.dumps(whole).decode() + "\n")
