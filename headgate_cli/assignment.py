"""What a supervisor tells a worker at its start, in one option of its command line, and hears when it is ready."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from gateway_core.resume.worker import Worker
from gateway_core.telemetry.log import LogWorker

OPTION = "--as-worker"


def log_lock(directory: Path) -> Path:
    """The file that workers, and their supervisor, lock while they write a line of the log."""
    return directory / "log.lock"


@dataclass(frozen=True, slots=True)
class Assignment:
    """Which worker it is, and what it inherits."""

    number: int
    count: int
    """How many there are."""
    process: str
    """What the ids of their streams begin with."""
    directory: str
    """Where they have their sockets for each other."""
    control: int
    """The descriptor of the socket to the supervisor."""
    http: int | None
    """The descriptor of the socket for HTTP, which is bound."""
    grpc: str | None
    """The address for gRPC."""
    notes: tuple[str, ...] = ()
    """What there is to tell of the addresses."""

    def text(self) -> str:
        """As it stands on a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, text: str) -> Self:
        """What `text` has made."""
        fields: dict[str, Any] = json.loads(text)
        return cls(**{**fields, "notes": tuple(fields["notes"])})

    def clear(self) -> None:
        """Removes the directory, where no other worker needs it and the supervisor is no more."""
        if not self.worker.others():
            shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def worker(self) -> Worker:
        """The same as the core knows it."""
        return Worker(self.number, self.process, Path(self.directory))

    @property
    def log_worker(self) -> LogWorker:
        """The same as the log knows it."""
        return LogWorker(self.number, log_lock(Path(self.directory)))


@dataclass(frozen=True, slots=True)
class Ready:
    """What a worker says when it serves."""

    lines: list[str]
    """Those of a start, for the person at the terminal."""
    root_key: str | None
    """The one among them that tells the operator's key, where it was made."""
    grace_seconds: float
    """How long it takes to drain, at most."""

    def text(self) -> str:
        """As one line."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def of(cls, text: str | bytes) -> Self:
        """What `text` has made."""
        return cls(**json.loads(text))
