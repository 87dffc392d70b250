"""The mock upstream answers as a host of models does, and writes streams as the model's name says."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pytest

from bench.answers import PIECES, TEXT, TOTAL_TOKENS
from bench.load import Job, outcome
from bench.mock import MockProtocol
from bench.process import ROOT, free_port


@contextmanager
def mock_upstream() -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "bench.mock", "--port", str(port), "--pace-ms", "1"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            said, _ = process.communicate(timeout=10)
    assert "µs of CPU each" in said


async def connected(client: openai.AsyncOpenAI) -> openai.AsyncOpenAI:
    deadline = time.monotonic() + 20
    while True:
        try:
            await client.models.list()
            return client
        except openai.APIConnectionError:
            assert time.monotonic() < deadline, "the mock upstream did not start"
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("model", ["tiny", "tiny-one-write", "tiny-apart"])
async def test_the_mock_upstream_answers_the_openai_sdk(model: str) -> None:
    with mock_upstream() as base_url:
        async with openai.AsyncOpenAI(base_url=base_url, api_key="bench", max_retries=0) as client:
            await connected(client)
            assert model in [listed.id for listed in (await client.models.list()).data]
            messages: Any = [{"role": "user", "content": "Hello"}]
            whole = await client.chat.completions.create(model=model, messages=messages)
            assert whole.choices[0].message.content == TEXT
            events = await client.chat.completions.create(
                model=model, messages=messages, stream=True, stream_options={"include_usage": True}
            )
            chunks = [chunk async for chunk in events]
            assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices) == TEXT
            assert chunks[-1].usage is not None
            assert chunks[-1].usage.total_tokens == TOTAL_TOKENS
            with pytest.raises(openai.BadRequestError):
                await client.post("/chat/completions", body={"no": "model"}, cast_to=object)


async def test_streams_that_are_held_end_whole_when_they_are_released() -> None:
    with mock_upstream() as base_url:
        async with openai.AsyncOpenAI(base_url=base_url, api_key="bench", max_retries=0) as client:
            await connected(client)
            messages: Any = [{"role": "user", "content": "Hello"}]
            streams = [
                await client.chat.completions.create(model="tiny-held", messages=messages, stream=True)
                for _ in range(2)
            ]
            for stream in streams:
                begun = [(await anext(stream)).choices[0].delta.content for _ in range(2)]
                assert begun == ["", PIECES[0]]
            await client.get(f"{base_url.removesuffix('/v1')}/release", cast_to=object)
            for stream in streams:
                rest = [chunk.choices[0].delta.content or "" async for chunk in stream]
                assert "".join([PIECES[0], *rest]) == TEXT


@pytest.mark.parametrize(("model", "writes"), [("tiny", 33), ("tiny-one-write", 0)])
async def test_each_event_of_a_burst_is_written_by_itself(
    model: str, writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []
    write = os.write

    def counted(descriptor: int, data: bytes) -> int:
        written.append(write(descriptor, data))
        return written[-1]

    monkeypatch.setattr(os, "write", counted)
    server = await asyncio.get_running_loop().create_server(lambda: MockProtocol(0.001), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        own = os.getpid()
        job = Job("http", port, True, own, own, model, "/v1/chat/completions", requests=1, seconds=5, warmup_seconds=0)
        found = await outcome(job)
    assert found.flaw is None
    # The last event goes with the end of the body, by way of the transport.
    assert len(written) == writes
