import asyncio
import fcntl
import os
import signal
import sys
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway_core.config import Config, ProviderConfig
from headgate_cli.chat import ChatOptions, answer
from headgate_cli.client import pieces
from headgate_cli.errors import CommandFailed, WrongUse
from tests.headgate_cli.program import Ended, ended, environment, started
from tests.support.gateway import Gateway, running
from tests.support.upstream import Silence, Upstream, json_answer, reached, sse_answer

SAID = [("user", "Hello world")]


def chunk(finish_reason: str | None = None, **delta: str) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "tiny", "choices": [choice]}


def config(upstream: Upstream, *unsupported: str) -> Config:
    row = {"base_url": upstream.base_url, "lists_models": False, "unsupported_parameters": unsupported}
    lab = ProviderConfig.model_validate({"kind": "openai", **row})
    return Config(providers={"lab": lab})


@pytest.fixture(params=["url", "grpc"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def asked(gateway: Gateway, way: str, *arguments: str, home: Path) -> Ended:
    """Runs `headgate chat` against a gateway."""
    address = gateway.http_url if way == "url" else gateway.grpc_address
    return await ended("chat", f"--{way}", address, *arguments, home=home)


def options(gateway: Gateway, way: str, model: str | None = "echo/echo") -> ChatOptions:
    if way == "url":
        return ChatOptions(model=model, url=gateway.http_url)
    return ChatOptions(model=model, grpc=gateway.grpc_address)


async def test_an_answer_is_said_and_what_it_cost_is_told_beside_it(way: str, tmp_path: Path) -> None:
    async with running(Config()) as gateway:
        result = await asked(gateway, way, "echo/echo", "Hello", "world", home=tmp_path)
    assert (result.code, result.out) == (0, "Hello world\n")
    assert result.err.startswith("echo/echo: 2 tokens in, 2 out")


async def test_reasoning_stays_out_of_a_pipe(way: str, upstream: Upstream, tmp_path: Path) -> None:
    events = [chunk(role="assistant", reasoning_content="Hmm"), chunk(content="Yes"), chunk("stop")]
    upstream.script(sse_answer(events))
    async with running(config(upstream)) as gateway:
        result = await asked(gateway, way, "lab/tiny", "Hello", home=tmp_path)
    assert (result.code, result.out) == (0, "Yes\n")
    assert "Hmm" in result.err


async def test_an_answer_that_was_cut_is_told(way: str, upstream: Upstream, tmp_path: Path) -> None:
    upstream.script(sse_answer([chunk(content="Ye"), chunk("length")]))
    async with running(config(upstream)) as gateway:
        result = await asked(gateway, way, "lab/tiny", "Hello", home=tmp_path)
    assert (result.code, result.out) == (0, "Ye\n")
    assert "cut off at its token limit" in result.err


async def test_warnings_are_shown(way: str, upstream: Upstream, tmp_path: Path) -> None:
    upstream.script(sse_answer([chunk(content="Yes"), chunk("stop")]))
    async with running(config(upstream, "messages")) as gateway:
        result = await asked(gateway, way, "lab/tiny", "Hello", home=tmp_path)
    assert result.err.startswith("warning: messages: dropped")


async def test_a_failure_is_the_sentence_of_the_gateway(way: str) -> None:
    async with running(Config()) as gateway:
        with pytest.raises(CommandFailed, match="There is no model 'nope'"):
            await answer(options(gateway, way, "nope"), SAID)


async def test_an_answer_that_breaks_off_is_a_failure(way: str, upstream: Upstream, tmp_path: Path) -> None:
    upstream.script(sse_answer([chunk(content="Ye"), {"error": {"message": "the GPU is on fire"}}], done=False))
    async with running(config(upstream)) as gateway:
        result = await asked(gateway, way, "lab/tiny", "Hello", home=tmp_path)
    assert (result.code, result.out) == (1, "Ye")
    (line,) = result.err.splitlines()
    assert "the GPU is on fire" in line


async def test_without_a_model_the_first_that_is_no_echo_is_asked(way: str, upstream: Upstream, tmp_path: Path) -> None:
    listed = json_answer({"object": "list", "data": [{"id": "an-embedder"}, {"id": "tiny"}]})
    upstream.script(listed, sse_answer([chunk(content="Yes"), chunk("stop")]))
    lab = config(upstream).providers["lab"].model_copy(update={"lists_models": True})
    async with running(Config(providers={"lab": lab})) as gateway:
        await upstream.received()
        address = gateway.http_url if way == "url" else gateway.grpc_address
        result = await ended("chat", f"--{way}", address, home=tmp_path, said="Hello")
    assert result.out == "Yes\n"
    assert result.err.startswith("asking lab/tiny\n")


@pytest.mark.parametrize("chosen", [{"url": "http://127.0.0.1:9"}, {"grpc": "127.0.0.1:9"}])
async def test_nobody_there_is_told_with_what_to_do(chosen: dict[str, str]) -> None:
    with pytest.raises(CommandFailed, match=r"no Headgate answers at .*:9: start one with `headgate serve`"):
        await answer(ChatOptions(model="echo/echo", **chosen), SAID)


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "grpc://127.0.0.1:8080", "http://", "http://[::1"])
async def test_what_is_no_url_is_refused_by_the_name_of_its_option(url: str) -> None:
    with pytest.raises(
        WrongUse, match="--url must be http://HOST:PORT, or https://HOST:PORT where it speaks TLS, and is"
    ):
        await answer(ChatOptions(model="echo/echo", url=url), SAID)


async def test_a_url_in_the_place_of_the_address_for_grpc_is_refused(tmp_path: Path) -> None:
    result = await ended("chat", "--grpc", "http://127.0.0.1:50051", home=tmp_path, said="Hello")
    assert result.code == 2
    assert result.err.startswith("headgate: --grpc must be HOST:PORT, such as")
    assert "http://127.0.0.1:50051" in result.err


async def test_another_server_is_not_taken_for_a_gateway(upstream: Upstream) -> None:
    upstream.script(json_answer("hello", 404))
    url = upstream.base_url.removesuffix("/v1")
    with pytest.raises(CommandFailed, match=r"what answers there is no Headgate \(HTTP status 404\)"):
        await answer(ChatOptions(model="echo/echo", url=url), SAID)


async def test_a_stream_without_its_end_is_a_failure() -> None:
    async def lines() -> AsyncIterator[str]:
        yield 'data: {"choices": []}'
        yield ": ping"

    with pytest.raises(CommandFailed, match="without"):
        _ = [piece async for piece in pieces(lines())]


async def test_a_prompt_is_read_from_a_pipe(tmp_path: Path) -> None:
    async with running(Config()) as gateway:
        result = await ended("chat", "--url", gateway.http_url, "echo/echo", home=tmp_path, said="two\nlines\n")
    assert (result.code, result.out) == (0, "two\nlines\n")


async def test_no_prompt_at_all_is_one_line(tmp_path: Path) -> None:
    result = await ended("chat", "echo/echo", home=tmp_path)
    assert result.code == 1
    assert result.err == "headgate: there is no prompt: give one, or write it to the standard input\n"


async def test_an_interrupt_ends_a_single_answer_with_130(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script(sse_answer([chunk(content="Ye"), Silence()]))
    async with running(config(upstream)) as gateway:
        process = await started("chat", "--url", gateway.http_url, "lab/tiny", "Hello", home=tmp_path)
        received = await upstream.received(within=20)
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), 20)
        await asyncio.wait_for(received.closed.wait(), 5)
    assert process.returncode == 130
    assert b"Traceback" not in err


class Terminal:
    """The program at a terminal: what is typed goes in, what is shown is collected."""

    def __init__(self, master: int, process: asyncio.subprocess.Process) -> None:
        self.shown = ""
        self.process = process
        self._master = master

    def read(self) -> None:
        try:
            self.shown += os.read(self._master, 4096).decode(errors="replace")
        except OSError:  # the program closed its side
            asyncio.get_running_loop().remove_reader(self._master)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    async def prompts(self, count: int) -> None:
        """Waits until it has asked for the next prompt so many times: what is typed before can get lost."""
        await self.shows("> ", count)

    async def shows(self, text: str, count: int = 1) -> None:
        try:
            await reached(lambda: self.shown.count(text) >= count, within=30)
        except AssertionError:
            raise AssertionError(f"not shown: {text!r} in {self.shown!r}") from None


@asynccontextmanager
async def terminal(*arguments: str, home: Path) -> AsyncIterator[Terminal]:
    master, slave = os.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headgate_cli", *arguments,
        cwd=home, env=environment(home, TERM="xterm"), stdin=slave, stdout=slave, stderr=slave,
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(slave)
    screen = Terminal(master, process)
    loop = asyncio.get_running_loop()
    loop.add_reader(master, screen.read)
    try:
        yield screen
    finally:
        loop.remove_reader(master)
        if process.returncode is None:
            process.kill()
        await process.wait()
        os.close(master)


async def test_a_conversation_is_kept_and_ctrl_c_cancels_an_answer_only(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script(
        sse_answer([chunk(content="One\x1b[2J"), chunk("stop")]),
        sse_answer([chunk(content="Tw"), Silence()]),
        sse_answer([chunk(content="Three"), chunk("stop")]),
    )
    async with (
        running(config(upstream)) as gateway,
        terminal("chat", "--url", gateway.http_url, "--system", "Be brief.", "lab/tiny", home=tmp_path) as screen,
    ):
        await screen.prompts(1)
        screen.type("first\n")
        await screen.shows("One")
        assert "\x1b[2J" not in screen.shown
        await screen.prompts(2)
        screen.type("second\n")
        await screen.shows("Tw")
        screen.type("\x03")
        await screen.shows("(cancelled)")
        await asyncio.wait_for((await upstream.received(2)).closed.wait(), 20)
        await screen.prompts(3)
        screen.type("third\n")
        await screen.shows("Three")
        said = (await upstream.received(3)).json()["messages"]
        assert [message["role"] for message in said] == ["system", "user", "assistant", "user"]
        assert [message["content"] for message in said][1::2] == ["first", "third"]
        await screen.prompts(4)
        screen.type("\x04")
        assert await asyncio.wait_for(screen.process.wait(), 20) == 0
