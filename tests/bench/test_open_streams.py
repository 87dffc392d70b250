"""Streams that are held open are counted, and each must end whole."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bench.answers import PIECES
from bench.memory import figures_of_streams, most_streams
from bench.mock import MockProtocol
from bench.open_streams import OpenStreams, StreamsJob, found


@asynccontextmanager
async def mock_upstream() -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(lambda: MockProtocol(0.001), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def job(port: int, model: str) -> StreamsJob:
    return StreamsJob("http", port, port, os.getpid(), model, 20, "/v1/chat/completions")


async def test_held_streams_are_open_at_once_and_all_end_whole() -> None:
    async with mock_upstream() as port:
        seen = await found(job(port, "tiny-held"))
    assert seen.flaw is None
    assert (seen.streams, seen.whole) == (20, 20)
    assert seen.bytes_open > 0


async def test_a_held_stream_that_loses_a_word_is_a_flaw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.answers.TEXT", " ".join(PIECES) + " and more")
    async with mock_upstream() as port:
        seen = await found(job(port, "tiny-held"))
    assert seen.flaw is not None
    assert "the text differs" in seen.flaw
    assert seen.whole == 0


async def test_a_server_that_is_not_there_holds_no_stream() -> None:
    async with mock_upstream() as port:
        pass
    assert (await found(job(port, "tiny-held"))).flaw is not None


def test_a_stream_over_rest_has_two_files_and_one_over_grpc_has_one() -> None:
    assert most_streams("http", 20_000) == 9_900
    assert most_streams("chat", 20_000) == 10_000
    assert most_streams("http", 1_024) == 412


def test_memory_is_told_for_each_stream() -> None:
    seen = OpenStreams(streams=100, whole=100, bytes_before=50 * 2**20, bytes_open=50 * 2**20 + 100 * 40 * 2**10)
    assert figures_of_streams(seen)["kib_per_stream"] == 40
    assert figures_of_streams(OpenStreams(flaw="refused"))["kib_per_stream"] is None
