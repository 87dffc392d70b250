"""What an exchange stands on: the connection that a request came on and its answer goes to."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping, Sequence
from typing import Any, Protocol

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]
Fields = dict[bytes, bytes]
"""Header fields of a request, names in lower case; of several with one name the last."""
Lines = bytes
"""Header fields as they are sent: each a line with its end."""

NO_BODY = frozenset({"GET", "HEAD", "OPTIONS"})
CONNECTION = "headgate.connection"
"""The key of a scope under which a server has its Connection, for apps that use that in place of ASGI's messages."""


class Connection(Protocol):
    """One request's side of a connection. What is sent once the client is gone goes nowhere."""

    headers: Fields
    client: str | None
    """The caller's address, as `forwarded_caller` has it. None: the connection leaves it to its user to find it out."""
    task: asyncio.Task[Any] | None
    """Does the work on the request; None before it has begun."""
    more_body: bool
    """Whether the body has more than what `take` gives."""
    keep_alive: bool
    """Whether the connection takes another request behind the answer."""
    trailers: Lines
    """What is sent behind an answer in pieces, where there is a place for it."""

    def take(self) -> bytes:
        """What has arrived of the body since it was asked for last."""
        ...

    async def receive(self) -> bytes | None:
        """Waits for more of the body, which may be nothing but its end; None: the client is gone."""
        ...

    def watch(self, lost: Callable[[], None] | None) -> None:
        """Sets what to call, once, when the client is gone (at once, if it is); None: nothing."""
        ...

    def respond(self, status: int, lines: Lines, body: bytes) -> Coroutine[Any, Any, None]:
        """Sends a whole answer; its length is among the lines."""
        ...

    async def start(self, status: int, lines: Lines) -> None:
        """Sends status and header lines of an answer in pieces."""
        ...

    async def send(self, data: bytes, *, more: bool) -> None:
        """Sends a piece, after which there are `more` or not; waits while the client reads slowly."""
        ...


class AsgiConnection:
    """The Connection of a server that speaks ASGI only."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Takes the three of an ASGI call, in the task that does the work."""
        self.headers: Fields = dict(scope["headers"])
        self.client: str | None = None
        self.task = asyncio.current_task()
        self.more_body = scope["method"] not in NO_BODY
        self.keep_alive = True
        self.trailers: Lines = b""
        self._receive = receive
        self._send = send
        self._lost: Callable[[], None] | None = None
        self._watcher: asyncio.Task[None] | None = None

    def take(self) -> bytes:
        """Nothing: what has arrived is not known before it is asked for."""
        return b""

    async def receive(self) -> bytes | None:
        """Waits for the next piece."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            return None
        self.more_body = message.get("more_body", False)
        self._begin_watch()
        piece: bytes = message.get("body", b"")
        return piece

    def watch(self, lost: Callable[[], None] | None) -> None:
        """Sets what to call. It is called once the body has been read: only then can the server be asked."""
        self._lost = lost
        if lost is None and self._watcher is not None:
            self._watcher.cancel()
        self._begin_watch()

    async def respond(self, status: int, lines: Lines, body: bytes) -> None:
        """Sends a whole answer."""
        await self.start(status, lines)
        await self.send(body, more=False)

    async def start(self, status: int, lines: Lines) -> None:
        """Sends status and headers."""
        headers = [(name, value) for name, _, value in [line.partition(b": ") for line in lines.splitlines()]]
        if not self.keep_alive:
            headers.append((b"connection", b"close"))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def send(self, data: bytes, *, more: bool) -> None:
        """Sends a piece."""
        await self._send({"type": "http.response.body", "body": data, "more_body": more})

    def _begin_watch(self) -> None:
        if self._lost is not None and self._watcher is None and not self.more_body:
            self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._lost is not None:
            self._lost()
