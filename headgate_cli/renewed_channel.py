"""A channel to a core whose files may be renewed: calls that begin after it go over a connection with the new ones."""

import asyncio
from collections.abc import Callable
from typing import Any, Self

import grpc
from grpc import aio

from gateway_core.tls_files import Material, TlsFiles

OLD_SECONDS = 3600.0
"""How long the calls of a connection before may go on: as long as any call may by default."""


class RenewedChannel(aio.Channel):
    """Stands for the channel of the moment. Closing it ends those before, too."""

    def __init__(self, files: TlsFiles, opened: Callable[[Material], aio.Channel]) -> None:
        """Takes the files, and what opens a channel with them."""
        self._files = files
        self._opened = opened
        self._shown = files.current()
        self._channel = opened(self._shown)
        self._closing: dict[asyncio.Task[None], aio.Channel] = {}

    def current(self) -> aio.Channel:
        """The channel for calls that begin now."""
        shown = self._files.current()
        if shown is not self._shown:
            before, self._shown, self._channel = self._channel, shown, self._opened(shown)
            closing = asyncio.get_running_loop().create_task(before.close(OLD_SECONDS), name="ending a renewed channel")
            self._closing[closing] = before
            closing.add_done_callback(self._closing.pop)
        return self._channel

    def unary_unary(self, *method: Any, **options: Any) -> Any:
        """A method of the channel of the moment."""
        return Method(self, lambda channel: channel.unary_unary(*method, **options))

    def unary_stream(self, *method: Any, **options: Any) -> Any:
        """A method of the channel of the moment."""
        return Method(self, lambda channel: channel.unary_stream(*method, **options))

    def stream_unary(self, *method: Any, **options: Any) -> Any:
        """A method of the channel of the moment."""
        return Method(self, lambda channel: channel.stream_unary(*method, **options))

    def stream_stream(self, *method: Any, **options: Any) -> Any:
        """A method of the channel of the moment."""
        return Method(self, lambda channel: channel.stream_stream(*method, **options))

    async def close(self, grace: float | None = None) -> None:
        """Ends the channel of the moment, and those before."""
        closing = dict(self._closing)
        for task in closing:
            task.cancel()
        await asyncio.gather(*(channel.close(grace) for channel in (*closing.values(), self._channel)))
        await asyncio.gather(*closing, return_exceptions=True)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """How the channel of the moment stands."""
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Waits until the channel of the moment stands otherwise."""
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Waits until the channel of the moment is connected."""
        await self._channel.channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class Method:
    """A method of whichever channel is the one of the moment."""

    __slots__ = ("_call", "_channel", "_made", "_owner")

    def __init__(self, owner: RenewedChannel, made: Callable[[aio.Channel], Any]) -> None:
        """Takes the channel, and what makes the method of one."""
        self._owner = owner
        self._made = made
        self._channel: aio.Channel | None = None
        self._call: Any = None

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Calls it."""
        channel = self._owner.current()
        if channel is not self._channel:
            self._channel, self._call = channel, self._made(channel)
        return self._call(*arguments, **options)
