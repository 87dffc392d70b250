"""Callers of the Envoy over REST and gRPC who go on whatever happens, and write down what they saw."""

import asyncio
import json
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx
from google.rpc import error_details_pb2
from grpc import aio
from grpc_status import rpc_status
from headgate.v1.chat_completion_service_pb2 import CreateChatCompletionRequest, StreamChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.message_pb2 import ROLE_USER

from tests.faults.ledger import PIECE, PIECES, cost
from tests.faults.outcomes import reason_code

DEADLINE_SECONDS = 12
GIVES_UP_SECONDS = DEADLINE_SECONDS + 3
PAUSE_SECONDS = 0.05
LIMITED_PAUSE_SECONDS = 0.15
OK = "ok"
UNTOLD = "ended as if whole, and was not"

Kind = Literal["REST", "REST stream", "gRPC", "gRPC stream"]
KINDS: tuple[Kind, ...] = ("REST", "REST stream", "gRPC", "gRPC stream")


@dataclass(slots=True)
class Call:
    """A call, as its caller saw it."""

    id: str
    kind: Kind
    account: str
    number: int
    """Of its tokens."""
    milliseconds: int
    """Between two pieces of its answer."""
    began: float
    """Of time.monotonic."""
    ended: float = 0.0
    word: str = ""
    """What became of it."""
    pieces: int = 0
    """That were delivered."""

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began

    @property
    def cost(self) -> int:
        """What it costs whole, in picodollars."""
        return cost(self.number)


@dataclass(slots=True)
class Seen:
    """Everything that callers saw."""

    calls: list[Call] = field(default_factory=list)


@asynccontextmanager
async def calling(
    url: str, grpc_address: str, keys: dict[str, str], seen: Seen, chance: random.Random
) -> AsyncIterator[None]:
    """Callers for as long as the context lasts; takes the secret keys of the accounts "steady" and "limited"."""
    is_over = asyncio.Event()
    # Each call a connection of its own over REST, so that a broken one is that call's alone.
    limits = httpx.Limits(max_keepalive_connections=0)
    async with (
        httpx.AsyncClient(base_url=url, timeout=GIVES_UP_SECONDS, trust_env=False, limits=limits) as client,
        aio.insecure_channel(grpc_address, [("grpc.enable_retries", 0)]) as channel,
    ):
        ways = Ways(client, ChatCompletionServiceStub(channel))
        tasks = [
            asyncio.create_task(call_on_and_on(ways, kind, keys, seen, random.Random(chance.random()), is_over))
            for kind in KINDS
            for _ in range(3)
        ]
        tasks += [asyncio.create_task(use_up(ways, kind, keys, seen, is_over)) for kind in ("REST", "gRPC")]
        try:
            yield
        finally:
            is_over.set()
            done, late = await asyncio.wait(tasks, timeout=2 * GIVES_UP_SECONDS)
            for task in late:
                task.cancel()
            assert not late, "a call did not end though its caller had given up"
            for task in done:
                task.result()


async def call_on_and_on(
    ways: "Ways", kind: Kind, keys: dict[str, str], seen: Seen, chance: random.Random, is_over: asyncio.Event
) -> None:
    """Calls of an account without limits, one after the other."""
    while not is_over.is_set():
        call = new_call(kind, "steady", chance.randrange(1, 1000), chance.randrange(0, 60))
        seen.calls.append(call)
        await ways.make(call, keys[call.account])
        await asyncio.sleep(PAUSE_SECONDS)


async def use_up(ways: "Ways", kind: Kind, keys: dict[str, str], seen: Seen, is_over: asyncio.Event) -> None:
    """Calls of an account with a limit, which is used up in the midst of the run."""
    while not is_over.is_set():
        call = new_call(kind, "limited", 1, 0)
        seen.calls.append(call)
        await ways.make(call, keys[call.account])
        await asyncio.sleep(LIMITED_PAUSE_SECONDS)


def new_call(kind: Kind, account: str, number: int, milliseconds: int) -> Call:
    """A call that begins now."""
    return Call(str(uuid.uuid4()), kind, account, number, milliseconds, time.monotonic())


class Ways:
    """How each kind of call is made."""

    def __init__(self, client: httpx.AsyncClient, stub: Any) -> None:
        """Takes a client of REST, and a stub."""
        self._client = client
        self._stub = stub

    async def make(self, call: Call, key: str) -> None:
        """Makes a call, and writes down what became of it."""
        how: dict[Kind, Callable[[Call, str], Any]] = {
            "REST": self._rest, "REST stream": self._rest_stream, "gRPC": self._grpc, "gRPC stream": self._grpc_stream,
        }  # fmt: skip
        try:
            call.word = await asyncio.wait_for(how[call.kind](call, key), GIVES_UP_SECONDS)
        except TimeoutError:
            call.word = f"no end in {GIVES_UP_SECONDS} s"
        except httpx.HTTPError as error:
            call.word = f"{'broke off' if call.pieces else 'no answer'}: {type(error).__name__}"
        except aio.AioRpcError as error:
            call.word = " ".join(part for part in (error.code().name, reason(error)) if part)
        call.ended = time.monotonic()

    async def _rest(self, call: Call, key: str) -> str:
        answer = await self._client.post("/v1/chat/completions", json=document(call), headers=headers(call, key))
        if answer.status_code != 200:
            return refusal(answer.status_code, answer.content)
        told = answer.json()["choices"][0]["message"]["content"]
        call.pieces = PIECES
        return OK if told == PIECE * PIECES else UNTOLD

    async def _rest_stream(self, call: Call, key: str) -> str:
        body = {**document(call), "stream": True, "stream_options": {"include_usage": True}}
        error = ""
        async with self._client.stream("POST", "/v1/chat/completions", json=body, headers=headers(call, key)) as answer:
            if answer.status_code != 200:
                return refusal(answer.status_code, await answer.aread())
            async for line in answer.aiter_lines():
                if line == "data: [DONE]":
                    return OK if call.pieces == PIECES else UNTOLD
                if line.startswith("data: "):
                    told = json.loads(line.removeprefix("data: "))
                    error = error or (told.get("error") or {}).get("code", "")
                    choices = told.get("choices") or [{}]
                    call.pieces += bool((choices[0].get("delta") or {}).get("content"))
        return f"error event: {error}" if error else UNTOLD

    async def _grpc(self, call: Call, key: str) -> str:
        request = CreateChatCompletionRequest(spec=spec(call))
        answer = await self._stub.CreateChatCompletion(
            request, timeout=DEADLINE_SECONDS, metadata=tuple(headers(call, key).items())
        )
        call.pieces = PIECES
        return OK if answer.completion.choices[0].message.content == PIECE * PIECES else UNTOLD

    async def _grpc_stream(self, call: Call, key: str) -> str:
        request = StreamChatCompletionRequest(spec=spec(call))
        characters = 0
        async for event in self._stub.StreamChatCompletion(
            request, timeout=DEADLINE_SECONDS, metadata=tuple(headers(call, key).items())
        ):
            characters += sum(len(choice.delta.content) for choice in event.chunk.choices)
            call.pieces = characters // len(PIECE)
        return OK if call.pieces == PIECES else UNTOLD


def headers(call: Call, key: str) -> dict[str, str]:
    """Of a call, over REST and over gRPC."""
    timeout = {} if call.kind.startswith("gRPC") else {"x-request-timeout": str(DEADLINE_SECONDS)}
    return {"authorization": f"Bearer {key}", "x-request-id": call.id, **timeout}


def content(call: Call) -> str:
    """What the vendor goes by."""
    return f"{call.number} {call.milliseconds}"


def document(call: Call) -> dict[str, Any]:
    """Over REST."""
    return {"model": "small", "messages": [{"role": "user", "content": content(call)}]}


def spec(call: Call) -> Any:
    """Over gRPC."""
    return {"model": "small", "messages": [{"role": ROLE_USER, "text": content(call)}]}


def refusal(status: int, body: bytes) -> str:
    """Status and code of a refusal; Envoy's own are plain text."""
    try:
        return f"{status} {json.loads(body)['error']['code']}"
    except (ValueError, KeyError, TypeError):
        return f"{status} Envoy: {body.decode(errors='replace').strip()[:90]}"


def reason(error: aio.AioRpcError) -> str:
    """The reason of a status in lower case, or else the beginning of its message."""
    try:
        status = rpc_status.from_call(error)
    except ValueError:
        status = None
    info = error_details_pb2.ErrorInfo()
    if status is not None and status.details and status.details[0].Unpack(info):
        return reason_code(info.reason)
    return (error.details() or "")[:60]
