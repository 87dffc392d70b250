"""The options of `headgate serve`, as they were typed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from headgate_cli.errors import WrongUse


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What is served, and where."""

    part: Literal["core", "bridge"] | None = None
    config: Path | None = None
    data: Path | None = None
    http: str | None = None
    grpc: str | None = None
    core: str | None = None
    workers: str | None = None
    """A number, or "auto"."""
    assignment: str | None = None
    """Of a worker: what its supervisor has told it. Nobody types it."""

    def check(self) -> None:
        """Raises WrongUse for options that do not go together."""
        if self.part == "bridge" and self.grpc is not None:
            raise WrongUse("the bridge alone does not listen for gRPC: leave --grpc out (--core names its core)")
        if self.part != "bridge" and self.core is not None:
            raise WrongUse("--core is for the bridge alone: headgate serve bridge --core HOST:PORT")
