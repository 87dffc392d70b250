"""Which of several processes behind one address this is, and how the others are reached."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from headgate.v1.chat_completion_service_pb2 import ResumeChatCompletionRequest, ResumeChatCompletionResponse

from gateway_core.call import Caller

GRACE_PART = 0.8
"""The part of the grace of a process that ends in which its connections are asked to go."""
CONNECTION_SECONDS_AT_MOST = 60.0


@dataclass(frozen=True, slots=True)
class Worker:
    """One process of a server that has several."""

    number: int
    """They are numbered in the order in which they are started; no number comes twice."""
    process: str
    """What the ids of their streams begin with."""
    directory: Path
    """Where each has a socket for the others. Nobody else may enter it."""

    def socket(self, number: int) -> Path:
        """Where a worker listens for the others."""
        return self.directory / f"{number}.sock"

    def others(self) -> list[int]:
        """The numbers of the other workers that listen."""
        numbers = (path.stem for path in self.directory.glob("*.sock"))
        return sorted(int(number) for number in numbers if number.isdigit() and int(number) != self.number)


def connection_seconds(drain_seconds: float) -> float:
    """How old a gRPC connection of a worker may become before its client is asked to open another.

    gRPC's own end of a server cancels calls that are on their way (github.com/grpc/grpc/issues/41785); the end of a
    connection by its age does not. So that all have been asked within the grace of a worker, they do not become older.
    """
    return max(1.0, min(CONNECTION_SECONDS_AT_MOST, GRACE_PART * drain_seconds))


class Copied(Protocol):
    """Streams of processes of other servers."""

    def resume(
        self, request: ResumeChatCompletionRequest, seconds: float | None, caller: Caller, context: Any
    ) -> AsyncGenerator[ResumeChatCompletionResponse, None]:
        """Continues one, for the caller of the context; raises NotFound where there is none."""
        ...


class Peers(Protocol):
    """The other workers."""

    def resume(
        self, number: int, request: ResumeChatCompletionRequest, context: Any
    ) -> AsyncGenerator[ResumeChatCompletionResponse, None]:
        """Has a worker continue its stream, for the caller of the context; raises NotFound where it has ended."""
        ...
