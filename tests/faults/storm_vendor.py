"""Vendors of the storm: known answers to whatever is asked, and a random fault in the place of some of them.

What a caller asks is three numbers: the seed of the answer, milliseconds between two events, and whether every vendor has
words of its own. An answer ends with its checksum, so that whoever reads it knows it whole.
"""

import gzip
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple

import orjson

from tests.support import anthropic_vendor as claude
from tests.support.openai_vendor import called, completion, event, refusal
from tests.support.upstream import (
    Answer,
    Cut,
    Delay,
    Received,
    Reset,
    Silence,
    Step,
    answer,
    chunk,
    head,
    json_answer,
    sse_answer,
    sse_event,
)

WORDS = (
    "one",
    "two",
    "ä",
    "🙂🙃",
    "\n\n",
    "e\u0301",
    "<|end|>",
    '"quoted"',
    "\\n",
    "data: [DONE]",
    "漢字",
    "slow",
    "   ",
    "fin.",
)
TOOL = "look"
SLOW_SECONDS = 0.7
"""More than the models' rows allow for a first token, and more than the providers' timeouts for a next."""
FINAL = frozenset({"content filter", "a wrong request", "an event of the filter", "too long"})
"""What no other target is asked for, or none that is not larger."""
HARMLESS = frozenset({"no [DONE]", "a stray answer behind", "ends after its finish"})
"""What may not be seen at all."""


class Asked(NamedTuple):
    """What a caller asks."""

    seed: int
    pause_ms: int
    is_own: bool
    stream: bool
    tools: bool
    prefill: str

    @property
    def pause(self) -> Delay:
        return Delay(self.pause_ms / 1000)


def prompt(seed: int, pause_ms: int, *, is_own: bool) -> str:
    return f"{seed} {pause_ms} {int(is_own)}"


def said(seed: int, voice: str) -> str:
    """The answer of one vendor."""
    chance = Random(f"{seed} {voice}")
    text = " ".join(chance.choice(WORDS) for _ in range(chance.randrange(4, 60)))
    text = f"{voice}{text}"
    return f"{text} #{zlib.crc32(text.encode()):08x}"


def is_exact(text: str, seed: int) -> bool:
    """Whether it is an answer to what was asked, whole and as its vendor said it."""
    body, _, sum = text.rpartition(" #")
    return f"{zlib.crc32(body.encode()):08x}" == sum and any(text == said(seed, voice) for voice in VOICES)


def tokens(text: str) -> int:
    return -(-len(text) // 4)


def prompt_tokens(seed: int) -> int:
    return 1 + seed % 997


def cost(seed: int, voice: str) -> int:
    """What a whole answer costs, in picodollars."""
    return (prompt_tokens(seed) + 2 * tokens(said(seed, voice))) * 10**6


SSE = {"content-type": "text/event-stream"}
JSON = {"content-type": "application/json"}
COMMON, VOICES = "", ("", "B: ", "C: ")


def asked(document: Any) -> Asked:
    messages = document["messages"]
    prefill = ""
    if messages[-1]["role"] == "assistant":
        content = messages[-1]["content"]
        prefill = content if isinstance(content, str) else content[0]["text"]
    content = messages[0]["content"]
    seed, pause, own = (content if isinstance(content, str) else content[0]["text"]).split()
    return Asked(int(seed), int(pause), own == "1", bool(document.get("stream")), bool(document.get("tools")), prefill)


def cut_up(text: str, chance: Random) -> list[str]:
    pieces, at = [], 0
    while at < len(text):
        size = chance.randrange(1, 14)
        pieces.append(text[at : at + size])
        at += size
    return pieces


def joined(steps: Sequence[Step]) -> bytes:
    """What is written, at once."""
    return b"".join(step for step in steps if isinstance(step, bytes))


def crumbs(step: Step, chance: Random) -> list[Step]:
    """What is written, in small pieces."""
    if not isinstance(step, bytes):
        return [step]
    at = sorted({0, len(step), *(chance.randrange(len(step)) for _ in range(3))})
    return [step[begin:end] for begin, end in pairwise(at)]


def openai_events(want: Asked, voice: str, chance: Random) -> list[Any]:
    """A streamed answer of OpenAI's form: the events, with the time between them."""
    text = said(want.seed, voice)
    steps: list[Any] = []
    if want.tools:
        written = orjson.dumps({"said": text}).decode()
        steps.append(
            event(
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"index": 0, **called(TOOL, "", f"call_{voice[:1]}")}],
                }
            )
        )
        for piece in cut_up(written, chance):
            steps += [want.pause, event({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})]
    else:
        steps.append(event({"role": "assistant", "content": ""}))
        for piece in cut_up(text, chance):
            steps += [want.pause, event({"content": piece})]
    end = {**event({}), "choices": [], "usage": usage(want.seed, text)}
    return [*steps, event({}, "tool_calls" if want.tools else "stop"), end]


def usage(seed: int, text: str) -> dict[str, int]:
    counts = (prompt_tokens(seed), tokens(text))
    return dict(zip(("prompt_tokens", "completion_tokens", "total_tokens"), (*counts, sum(counts)), strict=True))


def openai_document(want: Asked, voice: str) -> dict[str, Any]:
    text = said(want.seed, voice)
    if want.tools:
        call = called(TOOL, orjson.dumps({"said": text}).decode())
        return completion({"content": None, "tool_calls": [call]}, "tool_calls", usage=usage(want.seed, text))
    return completion({"content": text}, usage=usage(want.seed, text))


def claude_message(want: Asked, voice: str) -> dict[str, Any]:
    voice = next((each for each in VOICES if want.prefill and said(want.seed, each).startswith(want.prefill)), voice)
    text = said(want.seed, voice)
    assert text.startswith(want.prefill), "the beginning is nobody's"
    assert want.prefill == want.prefill.rstrip(), "it ends with white space"
    counts = {
        "input_tokens": prompt_tokens(want.seed) + tokens(want.prefill),
        "output_tokens": tokens(text[len(want.prefill) :]),
    }
    if want.tools:
        return claude.message(claude.tool_use("toolu_1", TOOL, said=text), stop_reason="tool_use", usage=counts)
    return claude.message(claude.text(text[len(want.prefill) :]), usage=counts)


@dataclass(slots=True)
class Vendor:
    """One host: what it says where it is well, and which faults it has had with whom."""

    kind: str
    voice: str
    chance: Random
    fault_rate: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    by_seed: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    """The faults of each call."""
    prefilled: set[int] = field(default_factory=set)
    request_count: int = 0

    def answer(self, received: Received) -> Answer:
        self.request_count += 1
        want = asked(received.json())
        if want.prefill:
            self.prefilled.add(want.seed)
        if self.chance.random() >= self.fault_rate:
            return self.well(want)
        faults = {**ANY_FAULTS, **(STREAM_FAULTS if want.stream else UNARY_FAULTS)}
        name = self.chance.choice(list(faults))
        self.faults[name] += 1
        self.by_seed[want.seed].append(name)
        return faults[name](self, want)

    def well(self, want: Asked) -> Answer:
        if want.stream:
            steps = [*self.steps(want), *self.end()]
            # Some cut their events anywhere, and some send all at once.
            dice = self.chance.random()
            if dice < 0.2:
                steps = [piece for step in steps for piece in crumbs(step, self.chance)]
            elif dice < 0.3:
                steps = [joined(steps)]
            return answer(steps, headers=SSE, framing="chunked", gzip=0.2 < dice < 0.4)
        return json_answer(self.document(want))

    def steps(self, want: Asked) -> list[Step]:
        """The bytes of the events of a whole answer, with the time between them; without the end of OpenAI's."""
        voice = self.voice if want.is_own else COMMON
        if self.kind == "openai":
            return [
                each if isinstance(each, Delay) else sse_event(each) for each in openai_events(want, voice, self.chance)
            ]
        steps: list[Step] = []
        for each in claude.events(claude_message(want, voice)):
            steps += [want.pause, claude.line(each)]
        return steps

    def end(self) -> list[Step]:
        return [b"data: [DONE]\n\n"] if self.kind == "openai" else []

    def document(self, want: Asked) -> dict[str, Any]:
        voice = self.voice if want.is_own else COMMON
        return openai_document(want, voice) if self.kind == "openai" else claude_message(want, voice)

    def framed(self, steps: Sequence[Step]) -> Answer:
        return answer(steps, headers=SSE, framing="chunked")

    def broken_off(self, want: Asked, *end: Step, last: int = 0) -> Answer:
        """A streamed answer that ends so somewhere in its midst, and not in the order of its chunks."""
        steps = self.steps(want)
        # What stands last is the finish reason and the usage: an answer that has these is whole.
        most = max(2, len(steps) - (2 if self.kind == "openai" else 4))
        at = self.chance.randrange(1, most) if not last else most
        return [*self.framed(steps[:at])[:-1], *end]

    def refused(self, status: int, headers: Mapping[str, str] | None = None, **fields: Any) -> Answer:
        if self.kind == "openai":
            return json_answer(refusal("The vendor's own reason.", **fields), status, headers)
        kind = {400: "invalid_request_error", 429: "rate_limit_error", 529: "overloaded_error"}.get(status, "api_error")
        return json_answer(claude.error(kind, f"The vendor's own reason: {fields}."), status, headers)


Fault = Callable[[Vendor, Asked], Answer]
SECRET_ANSWER = json.dumps(completion({"content": "This answer is nobody's."})).encode()
STRAY = answer([SECRET_ANSWER], headers=JSON)


def refused(status: int, vendor: Vendor, _: Asked) -> Answer:
    return vendor.refused(status)


def body_of(vendor: Vendor, want: Asked) -> bytes:
    return json.dumps(vendor.document(want)).encode()


def lengthy(vendor: Vendor, want: Asked, off: int, *end: Step) -> Answer:
    """A whole answer whose length is told wrong."""
    body = body_of(vendor, want)
    return [head(200, {**JSON, "content-length": str(len(body) + off)}), body, *end]


def error_event(vendor: Vendor, **fields: Any) -> bytes:
    if vendor.kind == "openai":
        return sse_event(refusal("The vendor's own reason.", **fields))
    return claude.line(claude.error("overloaded_error", "The vendor's own reason."))


ANY_FAULTS: dict[str, Fault] = {
    "429 with a short wait": lambda v, _: v.refused(429, {"retry-after-ms": "50"}),
    "429 with a long wait": lambda v, _: v.refused(429, {"retry-after": "3"}),
    **{str(status): partial(refused, status) for status in (401, 402, 403, 408, 409, 429, 500, 501, 502, 503, 504, 529)},
    "a page with 502": lambda v, _: answer([b"<html>Bad gateway</html>"], status=502),
    "too long": lambda v, _: v.refused(400, code="context_length_exceeded", param="prompt is too long"),
    "content filter": lambda v, _: v.refused(400, code="content_filter"),
    "a wrong request": lambda v, _: v.refused(422),
    "a redirect": lambda v, _: json_answer({}, 307, {"location": "http://127.0.0.1:1/"}),
    "reset": lambda v, _: [Reset()],
    "end": lambda v, _: [Cut()],
    "end in the headers": lambda v, _: [b"HTTP/1.1 200 OK\r\ncontent-ty", Cut()],
    "silence": lambda v, _: [Silence()],
    "silence in the headers": lambda v, _: [b"HTTP/1.1 200 OK\r\ncontent-ty", Silence()],
    "silence after the headers": lambda v, w: [*answer([Silence()], headers=SSE if w.stream else JSON, framing="chunked")],
    "no HTTP": lambda v, _: [b"\x00\x01 This is no HTTP.\r\n\r\n", Silence()],
    "two lengths": lambda v, w: [head(200, {**JSON, "content-length": "10, 20"}), body_of(v, w), Silence()],
    "endless headers": lambda v, _: [b"HTTP/1.1 200 OK\r\n", *[b"x-more: " + b"x" * 1000 + b"\r\n"] * 300, Silence()],
    "empty": lambda v, w: answer([], headers=SSE if w.stream else JSON),
    "an answer of zeros": lambda v, w: answer([b"\0" * 200], headers=SSE if w.stream else JSON),
    "gzip that is none": lambda v, w: answer([b"\x1f\x8b nothing"], headers={**(SSE if w.stream else JSON), "content-encoding": "gzip"}),
    "slow": lambda v, w: [Delay(SLOW_SECONDS), *v.well(w)],
    "wrong chunks": lambda v, w: [head(200, {**(SSE if w.stream else JSON), "transfer-encoding": "chunked"}), b"zz\r\n{}\r\n", Silence()],
}  # fmt: skip
"""Before the first word of an answer."""

STREAM_FAULTS: dict[str, Fault] = {
    "an error at first": lambda v, _: v.framed([error_event(v, type="overloaded_error")]),
    "no JSON at first": lambda v, _: sse_answer([b"data: {oops\n\n"], done=False),
    "a role and silence": lambda v, w: [*v.framed(v.steps(w)[:1])[:-1], Silence()],
    "a role and the end": lambda v, w: v.framed(v.steps(w)[:1]),
    "a role, slowly": lambda v, w: v.framed([*v.steps(w)[:1], Delay(SLOW_SECONDS), *v.steps(w)[1:], *v.end()]),
    "cut": lambda v, w: v.broken_off(w, Cut()),
    "reset in the midst": lambda v, w: v.broken_off(w, Reset()),
    "silence in the midst": lambda v, w: v.broken_off(w, Silence()),
    "ends in the midst": lambda v, w: v.broken_off(w, b"0\r\n\r\n"),
    "[DONE] in the midst": lambda v, w: v.broken_off(w, chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n"),
    "no JSON in the midst": lambda v, w: v.broken_off(w, chunk(b'data: {"choices": [{"index": 0, "delta": {"con\n\n'), *v.framed(v.steps(w)[-2:])[1:]),
    "no text in the midst": lambda v, w: v.broken_off(w, chunk(b"data: \xff\xfe\xfa\n\n"), *v.framed(v.steps(w)[-2:])[1:]),
    "another form in the midst": lambda v, w: v.broken_off(w, chunk(b"data: [1, 2]\n\n"), *v.framed(v.steps(w)[-2:])[1:]),
    "wrong chunks in the midst": lambda v, w: v.broken_off(w, b"fffffffff\r\n", Silence()),
    "an error in the midst": lambda v, w: v.broken_off(w, chunk(error_event(v, type="overloaded_error")), Silence()),
    "an event of the filter": lambda v, w: v.broken_off(w, chunk(error_event(v, code="content_filter", type="invalid_request_error")), b"0\r\n\r\n"),
    "no finish": lambda v, w: v.broken_off(w, *v.framed(v.end())[1:], last=1),
    "half an event": lambda v, w: v.broken_off(w, chunk(b'data: {"choices": [{"del'), Cut()),
    "a length too small, streamed": lambda v, w: [head(200, {**SSE, "content-length": "400"}), joined([*v.steps(w), *v.end()]), Cut()],
    "a length too large, streamed": lambda v, w: [head(200, {**SSE, "content-length": "99999"}), joined(v.steps(w)[: len(v.steps(w)) // 2]), Cut()],
    "no [DONE]": lambda v, w: v.framed(v.steps(w)),
    "ends after its finish": lambda v, w: [*v.framed(v.steps(w))[:-1], Cut()],
}  # fmt: skip

UNARY_FAULTS: dict[str, Fault] = {
    "half a document": lambda v, w: answer([body_of(v, w)[:-9]], headers=JSON),
    "a length too large": lambda v, w: lengthy(v, w, 100, Cut()),
    "a length too large, and silence": lambda v, w: lengthy(v, w, 100, Silence()),
    "a length too small": lambda v, w: lengthy(v, w, -20),
    "reset in the body": lambda v, w: [head(200, {**JSON, "content-length": "900"}), body_of(v, w)[:40], Reset()],
    "half of the chunks": lambda v, w: [*answer([body_of(v, w)], headers=JSON, framing="chunked")[:-1], Cut()],
    "half of the gzip": lambda v, w: answer([gzip.compress(body_of(v, w))[:-9]], headers={**JSON, "content-encoding": "gzip"}),
    "an error with 200": lambda v, w: json_answer(refusal("The vendor's own reason.", type="server_error")),
    "no choices": lambda v, w: json_answer({"id": "x", "object": "chat.completion", "choices": []}),
    "a list": lambda v, w: json_answer([1, 2]),
    "a stray answer behind": lambda v, w: [joined(v.well(w)) + joined(STRAY)],
}  # fmt: skip
