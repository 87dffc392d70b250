"""Both event loops that the bridge runs on."""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
import structlog
import uvloop
from structlog.testing import capture_logs

from tests.rest_bridge.edge.serving import Run


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest, quiet: None) -> Run:
    def ended(test: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(asyncio.wait_for(test, 20))

    return ended


@pytest.fixture
def quiet() -> Iterator[None]:
    with capture_logs():
        yield
    structlog.reset_defaults()
