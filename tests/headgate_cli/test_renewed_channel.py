"""A bridge apart takes renewed files: new calls show the new certificate, open ones go on."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from gateway_core.config_tls import CoreTlsConfig, ListenerTlsConfig
from gateway_core.services.listener import add_port
from gateway_core.tls_files import TlsFiles
from headgate_cli.address import Address
from headgate_cli.client import channel_options, renewed_core_channel
from headgate_cli.errors import CommandFailed
from tests.support.authority import DAY, Authority, Issued

SECONDS = 15
MESSAGE_BYTES = 1 << 20


@dataclass
class World:
    """A core that tells by which certificate it is called."""

    authority: Authority
    shown: Issued
    address: Address
    go_on: asyncio.Event

    def tls(self) -> CoreTlsConfig:
        return CoreTlsConfig(
            authorities=self.authority.file, certificate=self.shown.certificate, private_key=self.shown.private_key
        )

    def channel(self) -> aio.Channel:
        return renewed_core_channel(self.address, channel_options(self.address, MESSAGE_BYTES), self.tls())


def caller(context: Any) -> bytes:
    name: bytes = context.auth_context()["x509_common_name"][0]
    return name


async def tell(_: bytes, context: Any) -> bytes:
    return caller(context)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    go_on = asyncio.Event()

    async def tell_twice(_: bytes, context: Any) -> AsyncIterator[bytes]:
        yield caller(context)
        await go_on.wait()
        yield caller(context)

    authority = Authority(tmp_path)
    own = authority.issue("server")
    row = ListenerTlsConfig(certificate=own.certificate, private_key=own.private_key, client_authorities=authority.file)
    server = aio.server()
    methods: dict[str, Any] = {
        "Tell": grpc.unary_unary_rpc_method_handler(tell),
        "TellTwice": grpc.unary_stream_rpc_method_handler(tell_twice),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Test", methods),))
    port = add_port(server, "127.0.0.1:0", TlsFiles("tls.grpc", row))
    await server.start()
    yield World(authority, authority.issue("bridge", common_name="first"), Address("127.0.0.1", port), go_on)
    await server.stop(None)


def told_twice(channel: aio.Channel) -> Any:
    """A stream that is open."""
    ask: Any = channel.unary_stream("/Test/TellTwice")
    return ask(b"", timeout=SECONDS)


async def test_new_calls_show_the_new_certificate_and_open_ones_go_on(world: World) -> None:
    async with world.channel() as channel:
        await asyncio.wait_for(channel.channel_ready(), SECONDS)
        ask: Any = channel.unary_unary("/Test/Tell")
        stream: Any = told_twice(channel)
        assert await stream.read() == b"first"
        assert await ask(b"", timeout=SECONDS) == b"first"
        second = world.authority.issue("second", common_name="second")
        shutil.copyfile(second.certificate, world.shown.certificate)
        shutil.copyfile(second.private_key, world.shown.private_key)
        async with asyncio.timeout(SECONDS):
            while True:
                if await ask(b"", timeout=SECONDS) == b"second":
                    break
                await asyncio.sleep(0.1)
        world.go_on.set()
        assert await stream.read() == b"first"
        assert await stream.read() is aio.EOF


async def test_nothing_is_called_once_it_is_closed(world: World) -> None:
    channel = world.channel()
    stream: Any = told_twice(channel)
    assert await stream.read() == b"first"
    second = world.authority.issue("second", common_name="second")
    shutil.copyfile(second.certificate, world.shown.certificate)
    shutil.copyfile(second.private_key, world.shown.private_key)
    ask: Any = channel.unary_unary("/Test/Tell")
    async with asyncio.timeout(SECONDS):
        while True:
            if await ask(b"", timeout=SECONDS) == b"second":
                break
            await asyncio.sleep(0.1)
    await asyncio.wait_for(channel.close(), SECONDS)
    with pytest.raises(aio.UsageError):
        await ask(b"", timeout=SECONDS)
    stream.cancel()


async def test_files_that_cannot_be_used_are_told_by_their_key(world: World, tmp_path: Path) -> None:
    world.shown = world.authority.issue("late", valid=(-2 * DAY, -DAY))
    with pytest.raises(CommandFailed, match=r"core_tls\.certificate: .*: expired on "):
        world.channel()
    world.shown, world.authority.file = world.authority.issue("good"), tmp_path / "none.pem"
    with pytest.raises(CommandFailed, match=r"core_tls\.authorities: .*: cannot be read"):
        world.channel()
