"""Callers that go on calling while workers are restarted, over connections that they keep and ones that they do not."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, cast

import httpx
from grpc import aio
from headgate.v1.chat_completion_service_pb2 import CreateChatCompletionRequest, StreamChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.message_pb2 import ROLE_USER

TIMEOUT_SECONDS = 30
# Channels of one process share their connections unless they are told not to (grpc/impl/channel_arg_names.h).
OWN_CONNECTION = [("grpc.use_local_subchannel_pool", 1)]
TEXT = "one two three four"
"""What the streamed answers of the vendor say."""
ECHOED = "Hello"

Ask = Callable[[], Awaitable[str]]


def document(model: str, *, stream: bool) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": ECHOED}], "stream": stream}


def spec(model: str) -> Any:
    return {"model": model, "messages": [{"role": ROLE_USER, "text": ECHOED}]}


class Callers:
    """Call until they are stopped, and count."""

    def __init__(self, url: str, grpc: str) -> None:
        self.url = f"{url}/v1/chat/completions"
        self.grpc = grpc
        self.whole: Counter[str] = Counter()
        """Answers that came whole, by the kind of caller."""
        self.failed: list[str] = []
        self.longest_seconds: Counter[str] = Counter()
        self._stop = asyncio.Event()

    async def stop(self) -> None:
        self._stop.set()

    async def run(self, kind: str, ask: Ask, expected: str) -> None:
        """Calls again and again; no failure ends it."""
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                said = await ask()
                assert said == expected, said
                self.whole[kind] += 1
            except (httpx.HTTPError, aio.AioRpcError, AssertionError) as error:
                self.failed.append(f"{kind}: {error!r}")
            seconds = time.monotonic() - began
            self.longest_seconds[kind] = max(self.longest_seconds[kind], seconds)  # type: ignore[assignment]

    async def rest_kept(self) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_SECONDS) as client:
            await self.run("rest, kept", lambda: self._rest(client), ECHOED)

    async def rest_new(self) -> None:
        async def ask() -> str:
            async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_SECONDS) as client:
                return await self._rest(client)

        await self.run("rest, new", ask, ECHOED)

    async def rest_streams(self) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_SECONDS) as client:
            await self.run("rest, streams", lambda: self._rest_stream(client), f"{TEXT}[DONE]")

    async def grpc_kept(self) -> None:
        async with aio.insecure_channel(self.grpc, OWN_CONNECTION) as channel:
            await self.run("grpc, kept", lambda: self._grpc(channel), ECHOED)

    async def grpc_new(self) -> None:
        async def ask() -> str:
            async with aio.insecure_channel(self.grpc, OWN_CONNECTION) as channel:
                return await self._grpc(channel)

        await self.run("grpc, new", ask, ECHOED)

    async def grpc_streams(self) -> None:
        async with aio.insecure_channel(self.grpc, OWN_CONNECTION) as channel:
            await self.run("grpc, streams", lambda: self._grpc_stream(channel), TEXT)

    async def _rest(self, client: httpx.AsyncClient) -> str:
        answer = await client.post(self.url, json=document("echo/echo", stream=False))
        assert answer.status_code == 200, answer.text
        return cast(str, answer.json()["choices"][0]["message"]["content"])

    async def _rest_stream(self, client: httpx.AsyncClient) -> str:
        said = ""
        async with client.stream("POST", self.url, json=document("lab/tiny", stream=True)) as answer:
            assert answer.status_code == 200, await answer.aread()
            async for line in answer.aiter_lines():
                if line == "data: [DONE]":
                    said += "[DONE]"
                elif line.startswith("data: "):
                    for choice in httpx.Response(200, content=line.removeprefix("data: ")).json()["choices"]:
                        said += choice["delta"].get("content") or ""
        return said

    async def _grpc(self, channel: aio.Channel) -> str:
        request = CreateChatCompletionRequest(spec=spec("echo/echo"))
        answer = await ChatCompletionServiceStub(channel).CreateChatCompletion(request, timeout=TIMEOUT_SECONDS)
        return "".join(choice.message.content for choice in answer.completion.choices)

    async def _grpc_stream(self, channel: aio.Channel) -> str:
        request = StreamChatCompletionRequest(spec=spec("lab/tiny"))
        call: Any = ChatCompletionServiceStub(channel).StreamChatCompletion(request, timeout=TIMEOUT_SECONDS)
        return "".join([choice.delta.content async for event in call for choice in event.chunk.choices])
