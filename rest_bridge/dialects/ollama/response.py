"""The contract → Ollama's JSON, and nothing else: no I/O, no clock; times are handed in.

Sources: ChatResponse, GenerateResponse and Metrics in Ollama's api/types.go; the order of the lines is that of
ChatHandler and GenerateHandler in server/routes.go.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from headgate.v1.chat_completion_pb2 import (
    ChatCompletion,
    ChatCompletionChunk,
    ChunkChoice,
    Logprobs,
    TokenLogprob,
)
from headgate.v1.message_pb2 import ToolCall
from headgate.v1.token_usage_pb2 import TokenUsage

Line = dict[str, Any]

# Ollama tells "stop" of an answer that calls tools. Other words ("content_filter") stay what they are.
DONE_REASONS = {"tool_calls": "stop", "function_call": "stop"}

NANOSECONDS = 1_000_000_000


class UnreadableToolCall(Exception):
    """The model called a tool in a way that Ollama's JSON cannot say: its arguments are not a JSON object."""

    def __init__(self, name: str) -> None:
        """Takes the name of the tool."""
        super().__init__(f"the model called the tool '{name}' with arguments that are not a JSON object")


@dataclass(frozen=True, slots=True)
class Timing:
    """How long an answer took, in nanoseconds, as measured at the bridge.

    `first_ns` is how long its first event took, which counts as the evaluation of the prompt; None where the answer
    came at once, and all of the time counts as the evaluation of the answer.
    """

    total_ns: int
    first_ns: int | None = None


@dataclass(slots=True)
class Call:
    """A tool call, gathered from the chunks that hold a part of it."""

    id: str = ""
    name: str = ""
    arguments: str = ""
    other: bool = False

    def add(self, part: ToolCall) -> None:
        """Takes another part."""
        self.id = self.id or part.id
        self.name = self.name or part.function.name or part.custom.name
        self.arguments += part.function.arguments
        self.other = self.other or part.WhichOneof("call") in ("custom", "other_json")

    def document(self, position: int) -> Line:
        """The whole call; raises UnreadableToolCall."""
        # A function without parameters is mostly called with no text at all.
        arguments = json_object(self.arguments) if self.arguments.strip() else {}
        if arguments is None or self.other:
            raise UnreadableToolCall(self.name)
        document: Line = {"function": {"index": position, "name": self.name, "arguments": arguments}}
        return {"id": self.id} | document if self.id else document


@dataclass(frozen=True, slots=True)
class Said:
    """What one line says."""

    content: str = ""
    thinking: str = ""
    tool_calls: Sequence[Line] = ()
    logprobs: Sequence[Line] = ()

    def __bool__(self) -> bool:
        return bool(self.content or self.thinking or self.tool_calls or self.logprobs)


class ChunkWriter:
    """Writes the lines of one answer: text as it comes, tool calls whole, and what was measured at the end.

    A refusal is text, for want of another place. Only the first choice is written: Ollama cannot ask for more.
    """

    def __init__(self, model: str) -> None:
        """Takes the name that the caller gave the model: every line tells it."""
        self._model = model
        self._calls: dict[int, Call] = {}
        self._finish_reason = ""
        self._usage: TokenUsage | None = None

    def write(self, chunk: ChatCompletionChunk, now_ns: int) -> list[Line]:
        """The lines for a chunk, mostly one, none where it says nothing; `now_ns` is in ns since 1970-01-01 UTC."""
        if chunk.HasField("usage"):
            self._usage = chunk.usage
        lines = []
        for choice in chunk.choices:
            if choice.index != 0:
                continue
            self._finish_reason = choice.finish_reason or self._finish_reason
            delta = choice.delta
            for part in delta.tool_calls:
                self._calls.setdefault(part.index, Call()).add(part)
            said = Said(delta.content + delta.refusal, delta.reasoning, logprobs=logprob_list(choice.logprobs))
            if said:
                lines.append(self.line(said, now_ns))
        return lines

    def finish(self, timing: Timing, now_ns: int) -> list[Line]:
        """The lines at the end of a whole answer: the tool calls, and the one that is done.

        Raises UnreadableToolCall.
        """
        calls = [self._calls[index].document(position) for position, index in enumerate(sorted(self._calls))]
        lines = [self.line(Said(tool_calls=calls), now_ns)] if calls else []
        last = self.line(Said(), now_ns) | {"done": True}
        if self._finish_reason:
            last["done_reason"] = DONE_REASONS.get(self._finish_reason, self._finish_reason)
        return [*lines, last | metrics(timing, self._usage)]

    def loaded(self, done_reason: str, now_ns: int) -> Line:
        """The answer to a request that only wants the model "load"-ed or "unload"-ed."""
        return self.line(Said(), now_ns) | {"done": True, "done_reason": done_reason}

    def line(self, said: Said, now_ns: int) -> Line:
        """A line that is not done."""
        line = {"model": self._model, "created_at": timestamp(now_ns), **self.spoken(said), "done": False}
        return line | {"logprobs": list(said.logprobs)} if said.logprobs else line

    def whole(self, lines: Sequence[Line]) -> Line:
        """The lines of an answer, folded to the one document that a caller gets who does not stream."""
        said = [self.said(line) for line in lines]
        document = lines[-1] | self.spoken(
            Said(
                "".join(one.content for one in said),
                "".join(one.thinking for one in said),
                [call for one in said for call in one.tool_calls],
            )
        )
        logprobs = [logprob for line in lines for logprob in line.get("logprobs", ())]
        return document | {"logprobs": logprobs} if logprobs else document

    def spoken(self, said: Said) -> Line:
        """The fields of a line that hold what is said."""
        raise NotImplementedError

    def said(self, line: Line) -> Said:
        """What the fields of a line say."""
        raise NotImplementedError


class ChatWriter(ChunkWriter):
    """Writes the lines of POST /api/chat."""

    def spoken(self, said: Said) -> Line:
        """A message."""
        return {"message": {"role": "assistant", "content": said.content} | spoken_beside(said)}

    def said(self, line: Line) -> Said:
        """What the message says."""
        message = line["message"]
        return Said(message["content"], message.get("thinking", ""), message.get("tool_calls", ()))


class GenerateWriter(ChunkWriter):
    """Writes the lines of POST /api/generate."""

    def spoken(self, said: Said) -> Line:
        """Fields of the line itself."""
        return {"response": said.content} | spoken_beside(said)

    def said(self, line: Line) -> Said:
        """What the line says."""
        return Said(line["response"], line.get("thinking", ""), line.get("tool_calls", ()))


def completion_document(writer: ChunkWriter, completion: ChatCompletion, timing: Timing, now_ns: int) -> Line:
    """An answer that came whole: its lines, folded. Raises UnreadableToolCall."""
    choices = [
        ChunkChoice(
            index=choice.index, delta=choice.message, finish_reason=choice.finish_reason, logprobs=choice.logprobs
        )
        for choice in completion.choices
    ]
    usage = completion.usage if completion.HasField("usage") else None
    chunk = ChatCompletionChunk(choices=choices, usage=usage)
    return writer.whole([*writer.write(chunk, now_ns), *writer.finish(timing, now_ns)])


def spoken_beside(said: Said) -> Line:
    """The fields beside the text, where there is something in them."""
    thinking: Line = {"thinking": said.thinking} if said.thinking else {}
    return thinking | {"tool_calls": list(said.tool_calls)} if said.tool_calls else thinking


def metrics(timing: Timing, usage: TokenUsage | None) -> Line:
    """What was measured. Headgate loads no model; without usage from the provider there are no counts."""
    document: Line = {"total_duration": timing.total_ns, "load_duration": 0}
    if usage is not None:
        document["prompt_eval_count"] = usage.prompt_tokens
    if timing.first_ns is not None:
        document["prompt_eval_duration"] = timing.first_ns
    if usage is not None:
        document["eval_count"] = usage.completion_tokens
    return document | {"eval_duration": timing.total_ns - (timing.first_ns or 0)}


def logprob_list(logprobs: Logprobs) -> list[Line]:
    """Log probabilities, of the refusal too since it is text."""
    return [
        one_logprob(token)
        | ({"top_logprobs": [one_logprob(top) for top in token.top_logprobs]} if token.top_logprobs else {})
        for token in (*logprobs.content.tokens, *logprobs.refusal.tokens)
    ]


def one_logprob(token: TokenLogprob) -> Line:
    """The log probability of a token."""
    document: Line = {"token": token.token, "logprob": token.logprob}
    return document | {"bytes": list(token.utf8)} if token.HasField("utf8") else document


def timestamp(ns: int) -> str:
    """A time in ns since 1970-01-01 UTC, by RFC 3339 with nine digits of a second."""
    seconds, rest = divmod(ns, NANOSECONDS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def json_object(text: str) -> Line | None:
    """The object that a JSON text holds. None: it holds none, or one that nests too deep to be written into a line."""
    try:
        value = orjson.loads(text)
        # orjson reads deeper than it writes, and a line has the object eight levels down at most.
        orjson.dumps([[[[[[[[value]]]]]]]])
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    return value if type(value) is dict else None
