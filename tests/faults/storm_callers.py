"""Callers of the storm: OpenAI's SDK, raw HTTP and gRPC; whole answers, streams and tools; some leave, some have deadlines."""

import asyncio
import json
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx
import openai
from grpc import aio
from headgate.v1.chat_completion_service_pb2 import CreateChatCompletionRequest, StreamChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ROLE_USER, ChatMessage
from headgate.v1.tool_pb2 import FunctionTool, Tool
from openai import AsyncOpenAI

from tests.faults.callers import reason_of
from tests.faults.storm_vendor import TOOL, is_exact, prompt
from tests.support.kept import bearer

PATH = "/v1/chat/completions"
SECONDS_AT_MOST = 15.0
"""No call may take longer. The providers' timeouts allow at most about a half of it."""
LATE_SECONDS = 3.0
"""By so much a deadline may be missed where the machine is busy."""
PARAMETERS = {"type": "object", "properties": {"said": {"type": "string"}}}
FUNCTION = {"type": "function", "function": {"name": TOOL, "parameters": PARAMETERS}}


class Wrong(AssertionError):
    """An answer that was told as whole, and is not."""


class Left(Exception):
    """The caller left."""


@dataclass(slots=True)
class Seen:
    """One call, as its caller sees it."""

    request_id: str
    seed: int
    kind: str
    model: str
    key: str
    stream: bool
    tools: bool
    pause_ms: int
    is_own: bool
    leaves_after: float | None = None
    """Events, where it is a stream; seconds where it is not. None: the caller stays."""
    deadline: float | None = None
    outcome: str = ""
    """ "whole", "left", "wrong", "hung", or "failed", and then the code."""
    code: str = ""
    seconds: float = 0.0
    text: list[str] = field(default_factory=list)
    cost: str = ""
    why: str = ""

    @property
    def document(self) -> dict[str, Any]:
        """The request of OpenAI's form."""
        content = prompt(self.seed, self.pause_ms, is_own=self.is_own)
        body: dict[str, Any] = {"model": self.model, "messages": [{"role": "user", "content": content}]}
        if self.tools:
            body["tools"] = [FUNCTION]
        if self.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body

    @property
    def headers(self) -> dict[str, str]:
        told = {"x-request-id": self.request_id}
        return told if self.deadline is None else {**told, "x-request-timeout": f"{self.deadline:.3f}"}

    def check(self, reasons: Sequence[str | None]) -> None:
        """Raises Wrong where what was told as an answer is not whole and exact."""
        if list(reasons) != ["tool_calls" if self.tools else "stop"]:
            raise Wrong(f"finish reasons: {reasons}")
        text = "".join(self.text)
        if self.tools:
            try:
                text = json.loads(text)["said"]
            except (ValueError, KeyError, TypeError):
                raise Wrong(f"arguments: {text!r}") from None
        if not is_exact(text, self.seed):
            raise Wrong(f"said {text!r}")

    def hear(self, text: str | None, count: int) -> None:
        """Takes a piece of a stream; raises Left where it is time."""
        if text:
            self.text.append(text)
        if self.leaves_after is not None and count >= self.leaves_after:
            raise Left


@dataclass(slots=True)
class Callers:
    """What the callers of one server share."""

    url: str
    channel: aio.Channel
    http: httpx.AsyncClient
    sdk: AsyncOpenAI
    models: tuple[str, ...]
    keys: Mapping[str, str]
    """By name of the account."""
    seen: list[Seen] = field(default_factory=list)

    def next(self, chance: Random) -> Seen:
        """A call that differs from the others."""
        kind = chance.choice(list(KINDS))
        stream = chance.random() < 0.65
        leaves = deadline = None
        dice = chance.random()
        if dice < 0.12:
            leaves = float(chance.randrange(1, 12)) if stream and dice < 0.09 else chance.uniform(0.0, 0.3)
        elif dice < 0.24:
            deadline = chance.choice((chance.uniform(0.02, 0.3), chance.uniform(0.3, 3)))
        return Seen(
            str(uuid.UUID(int=chance.getrandbits(128), version=4)), chance.randrange(10**12), kind,
            chance.choice(self.models), "poor" if chance.random() < 0.03 else chance.choice(("rich", "other", "root")),
            stream, chance.random() < 0.25, chance.choice((0, 0, 1, 5, 20)), chance.random() < 0.15, leaves, deadline,
        )  # fmt: skip

    async def one(self, chance: Random) -> None:
        """Makes a call, and writes down what became of it."""
        call = self.next(chance)
        loop = asyncio.get_running_loop()
        began = loop.time()
        # A caller that leaves so early leaves by being cancelled, in whatever it awaits; others leave at an event.
        at = None if call.leaves_after is None or call.leaves_after >= 1 else call.leaves_after
        task = asyncio.create_task(KINDS[call.kind](self, call))
        bound = SECONDS_AT_MOST if call.deadline is None else call.deadline + LATE_SECONDS
        done, _ = await asyncio.wait((task,), timeout=bound if at is None else at)
        call.seconds = loop.time() - began
        if not done:
            call.outcome = "hung" if at is None else "left"
            task.cancel()
            await asyncio.wait((task,))
        else:
            call.outcome, call.code, call.why = told(task)
        self.seen.append(call)

    def key(self, call: Seen) -> str:
        return self.keys[call.key]


def told(task: asyncio.Task[None]) -> tuple[str, str, str]:
    """What became of a call that has ended: outcome, code, and why."""
    error = task.exception()
    match error:
        case None:
            return "whole", "", ""
        case Left():
            return "left", "", ""
        case Wrong():
            return "wrong", "", str(error)
        case Failed():
            return "failed", error.code, str(error)
        case openai.APIError():
            return "failed", error.code or type(error).__name__, str(error)
        case aio.AioRpcError():
            return "failed", reason_of(error) or (error.code().name.lower()), error.details() or ""
    return "wrong", "", repr(error)


class Failed(Exception):
    """An answer that was told as failed, over raw HTTP."""

    def __init__(self, error: Any) -> None:
        """Takes the error of the document."""
        super().__init__(error.get("message"))
        self.code: str = error.get("code") or error.get("type") or "error"


async def by_sdk(callers: Callers, call: Seen) -> None:
    create = callers.sdk.with_options(api_key=callers.key(call)).chat.completions
    if not call.stream:
        raw = await create.with_raw_response.create(**call.document, extra_headers=call.headers)
        call.cost = raw.headers.get("x-headgate-cost", "")
        (choice,) = raw.parse().choices
        whole_choice(call, choice.model_dump())
        return
    finish: list[str] = []
    count = 0
    async with await create.create(**call.document, extra_headers=call.headers) as answer:
        async for chunk in answer:
            count += 1
            hear_chunk(call, chunk.model_dump(), count, finish)
    call.check(finish)


def whole_choice(call: Seen, choice: Mapping[str, Any]) -> None:
    message = choice["message"]
    if call.tools:
        (one,) = message["tool_calls"]
        call.text.append(one["function"]["arguments"])
    else:
        call.text.append(message["content"])
    call.check([choice["finish_reason"]])


def hear_chunk(call: Seen, chunk: Mapping[str, Any], count: int, finish: list[str]) -> None:
    used = chunk.get("usage")
    if used:
        call.cost = str(used.get("cost", ""))
    for choice in chunk["choices"]:
        delta = choice["delta"]
        if finish and (delta.get("content") or delta.get("tool_calls")):
            raise Wrong("it says something after its finish reason")
        if choice.get("finish_reason"):
            finish.append(choice["finish_reason"])
        call.hear(delta.get("content"), count)
        for one in delta.get("tool_calls") or ():
            call.hear((one.get("function") or {}).get("arguments"), count)


async def by_http(callers: Callers, call: Seen) -> None:
    headers = {**call.headers, "authorization": f"Bearer {callers.key(call)}"}
    if call.stream:
        async with callers.http.stream("POST", PATH, json=call.document, headers=headers) as response:
            await read_stream(call, response)
        return
    response = await callers.http.post(PATH, json=call.document, headers=headers)
    call.cost = response.headers.get("x-headgate-cost", "")
    document = response.json()
    if response.status_code != 200:
        raise Failed(document["error"])
    (choice,) = document["choices"]
    whole_choice(call, choice)


async def read_stream(call: Seen, response: httpx.Response) -> None:
    """Reads to the end of the connection's answer, which must come after its words' end."""
    if response.status_code != 200:
        raise Failed(json.loads(await response.aread())["error"])
    finish: list[str] = []
    events: list[str] = []
    error = None
    async for line in response.aiter_lines():
        if not line.startswith("data: "):
            continue
        if error is not None or "data: [DONE]" in events[-1:]:
            raise Wrong(f"it goes on after its end: {line!r}")
        events.append(line)
        if line != "data: [DONE]":
            document = json.loads(line.removeprefix("data: "))
            error = document.get("error")
            if error is None:
                hear_chunk(call, document, len(events), finish)
    if error is not None:
        raise Failed(error)
    if events[-1:] != ["data: [DONE]"]:
        raise Wrong(f"no end, finish reasons {finish}")
    call.check(finish)


def spec(call: Seen) -> ChatCompletionSpec:
    text = prompt(call.seed, call.pause_ms, is_own=call.is_own)
    made = ChatCompletionSpec(model=call.model, messages=[ChatMessage(role=ROLE_USER, text=text)])
    if call.tools:
        made.tools.append(Tool(function=FunctionTool(name=TOOL, parameters_json=json.dumps(PARAMETERS))))
    return made


async def by_grpc(callers: Callers, call: Seen) -> None:
    stub = ChatCompletionServiceStub(callers.channel)
    metadata = (*bearer(callers.key(call)), ("x-request-id", call.request_id))
    finish: list[str] = []
    if not call.stream:
        request = CreateChatCompletionRequest(spec=spec(call))
        choices = (
            await stub.CreateChatCompletion(request, timeout=call.deadline, metadata=metadata)
        ).completion.choices
        hear_choices(call, [(each.message, each.finish_reason) for each in choices], 0, finish)
    else:
        count = 0
        rpc = stub.StreamChatCompletion(
            StreamChatCompletionRequest(spec=spec(call)), timeout=call.deadline, metadata=metadata
        )
        try:
            async for event in rpc:
                count += 1
                if event.chunk.usage.cost_usd:
                    call.cost = event.chunk.usage.cost_usd
                hear_choices(call, [(each.delta, each.finish_reason) for each in event.chunk.choices], count, finish)
        finally:
            rpc.cancel()
    call.check(finish)


def hear_choices(call: Seen, choices: list[tuple[Any, str]], count: int, finish: list[str]) -> None:
    for said, reason in choices:
        if reason:
            finish.append(reason)
        call.hear(said.content, count)
        for one in said.tool_calls:
            call.hear(one.function.arguments, count)


KINDS: dict[str, Callable[[Callers, Seen], Coroutine[Any, Any, None]]] = {
    "sdk": by_sdk,
    "http": by_http,
    "grpc": by_grpc,
}
