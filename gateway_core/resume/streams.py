"""The streams of this process that can be continued: their ids, how many there may be, and their end with it."""

import asyncio
import hmac
import secrets
from typing import Any

from gateway_core.call import Call, Caller, Next, Rewrite
from gateway_core.config import DetachConfig
from gateway_core.errors import NotFound, ShuttingDown
from gateway_core.resume.copies import Copies
from gateway_core.resume.stream import ResumableStream
from gateway_core.resume.worker import Worker

NAME = "detach"
ID_AT_MOST = 200
"""Characters of an id that are told back."""
NUMBER_DIGITS = 12
"""Of a worker."""


class Streams:
    """Owns their tasks.

    An id is "PROCESS-NUMBER-SECRET": by the first part a proxy finds the process, by the second this process finds the
    stream, and the third keeps apart those who share a public key. Where several workers are one process to the
    outside, the number begins with that of the worker: "3w1f".
    """

    def __init__(self, config: DetachConfig, worker: Worker | None = None) -> None:
        """Takes what they may take, and which worker this is."""
        self._config = config
        self._worker = worker
        self._process = worker.process if worker is not None else config.process or secrets.token_hex(4)
        self.copies: Copies | None = None
        """Where other processes find copies of them. None: nowhere."""
        self._prefix = f"{self._process}-" if worker is None else f"{self._process}-{worker.number}w"
        self._number = 0
        self._streams: dict[str, ResumableStream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_draining = False

    def __len__(self) -> int:
        """How many can be continued."""
        return len(self._streams)

    def begin(self, call: Call[Any], seconds: float, pipeline: Next[Any]) -> ResumableStream | Rewrite:
        """Begins a call that goes on for so long without its caller; or says why it cannot be one that does."""
        config = self._config
        seconds = min(seconds, config.at_most_seconds)
        if not seconds:
            return Rewrite(NAME, "no call goes on without its caller here")
        if self._is_draining:
            return Rewrite(NAME, "ignored, the server is shutting down")
        if len(self._streams) >= config.calls and not self._forget_oldest():
            return Rewrite(NAME, "ignored, as many calls as may be go on without their callers if they must")
        call.joins_pieces = False  # who comes back may have had some of them
        self._number += 1
        key = f"{self._prefix}{self._number:x}"
        identity = f"{key}-{secrets.token_hex(16)}"
        stream = ResumableStream(identity, call, seconds, config.buffer_bytes, self._forget)
        self._streams[key] = stream
        if self.copies is not None:
            self.copies.keep(stream)
        task = stream.start(pipeline)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return stream

    def find(self, identity: str, caller: Caller) -> ResumableStream:
        """The stream of an id, for the account that began it; raises NotFound.

        A public key continues only what it began itself.
        """
        key = identity.rpartition("-")[0]
        stream = self._streams.get(key)
        if stream is not None and hmac.compare_digest(stream.id.encode(), identity.encode()):
            owner = stream.call.caller
            is_its = owner.account_id == caller.account_id
            if is_its and (caller.kind != "public" or owner.key_id == caller.key_id):
                return stream
        told = identity[:ID_AT_MOST]
        process = key.rpartition("-")[0][:ID_AT_MOST]
        if process and process != self._process:
            message = f"The process {process!r} runs or ran the stream; this is {self._process!r}."
            raise NotFound(message, resource="stream", id=told, process=process)
        message = f"There is no stream {told!r}: its id is wrong, it was given up, or its time has passed."
        raise NotFound(message, resource="stream", id=told)

    def worker_of(self, identity: str) -> int | None:
        """The number of the other worker that runs or ran a stream. None: none does, by its id."""
        if self._worker is None or not identity.startswith(f"{self._process}-"):
            return None
        number, mark, _ = identity.removeprefix(f"{self._process}-").partition("w")
        is_number = mark and number.isascii() and number.isdigit() and len(number) <= NUMBER_DIGITS
        return int(number) if is_number and int(number) != self._worker.number else None

    def bounded(self, seconds: float | None) -> float | None:
        """As much of a time as the configuration allows. None stays None."""
        return None if seconds is None else min(seconds, self._config.at_most_seconds)

    def drain(self) -> None:
        """Ends those to which nobody listens, and all others with their listeners."""
        self._is_draining = True
        for stream in list(self._streams.values()):
            stream.is_closing = True
            if stream.listener is None:
                stream.end()

    async def close(self) -> None:
        """Ends all, and waits until they have ended."""
        self._is_draining = True
        for stream in list(self._streams.values()):
            stream.end(ShuttingDown("The server is shutting down."))
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._streams.clear()

    def _forget(self, stream: ResumableStream) -> None:
        self._streams.pop(stream.id.rpartition("-")[0], None)
        if self.copies is not None and not self._is_draining:
            self.copies.forget(stream)

    def _forget_oldest(self) -> bool:
        """Makes room by one that has ended and to which nobody listens; False where there is none."""
        for stream in self._streams.values():
            if stream.is_over and stream.listener is None:
                stream.end()
                return True
        return False
