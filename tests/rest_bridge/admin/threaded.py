"""A server in a thread of its own, for clients that know no asyncio."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager

SECONDS = 30


@contextmanager
def threaded(server: AbstractAsyncContextManager[str]) -> Iterator[str]:
    """The URL that a server's context tells, for as long as this context lasts."""
    told, urls = threading.Event(), list[str]()
    loops: list[asyncio.AbstractEventLoop] = []
    ended = asyncio.Event()

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        try:
            async with server as url:
                urls.append(url)
                told.set()
                await ended.wait()
        finally:
            told.set()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert told.wait(SECONDS)
        yield urls[0]
    finally:
        loops[0].call_soon_threadsafe(ended.set)
        thread.join(SECONDS)
        assert not thread.is_alive()
