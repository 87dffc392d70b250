"""A log to read from, and the process as it was before."""

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from gateway_core.config import LogConfig
from gateway_core.telemetry.log import configure_log
from tests.support.unconfigured import unconfigure_log


class Log:
    """What was logged as JSON."""

    def __init__(self, stream: io.BytesIO) -> None:
        self._stream = stream

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]

    @property
    def calls(self) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == "call"]

    @property
    def text(self) -> str:
        return self._stream.getvalue().decode()


@pytest.fixture
def unconfigured() -> Iterator[None]:
    """Puts the configuration of the process's logging back afterwards."""
    yield
    unconfigure_log()


@pytest.fixture
def log(unconfigured: None) -> Log:
    """The log, as JSON."""
    stream = io.BytesIO()
    configure_log(LogConfig(format="json"), stream)
    return Log(stream)
