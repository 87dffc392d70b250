"""Fixtures that every test may ask for."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import structlog

from gateway_core.config import Config, ProviderConfig
from tests.support.gateway import ARRANGEMENTS, Arrangement, Gateway, running
from tests.support.unconfigured import unconfigure_log
from tests.support.upstream import Upstream


@pytest.fixture(autouse=True, scope="session")
def loggers_that_can_be_configured_again() -> Iterator[None]:
    """A logger that was configured once keeps that for good: in tests none does, so that others can look at its lines."""
    configure = structlog.configure

    def configured(**options: Any) -> None:
        configure(**{**options, "cache_logger_on_first_use": False})

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(structlog, "configure", configured)
        yield


@pytest.fixture(autouse=True, scope="module")
def log_as_it_was() -> Iterator[None]:
    """What a file of tests did to the log of the process ends with it, so that none depends on which ran before."""
    yield
    unconfigure_log()


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A scripted vendor on a free loopback port."""
    async with Upstream() as scripted:
        yield scripted


@pytest.fixture(params=ARRANGEMENTS)
def arrangement(request: pytest.FixtureRequest) -> Arrangement:
    """Core and bridge in one process, and apart: what holds for one holds for the other."""
    chosen: Arrangement = request.param
    return chosen


def lab_config(base_url: str) -> Config:
    """A configuration whose one provider, "lab", is at a base URL; its models are not listed."""
    lab = ProviderConfig(kind="openai", base_url=base_url, api_key="sk-lab-secret", lists_models=False)  # type: ignore[arg-type]
    return Config(providers={"lab": lab})


@pytest.fixture
async def gateway(upstream: Upstream, arrangement: Arrangement) -> AsyncIterator[Gateway]:
    """A whole gateway whose provider "lab" is the scripted vendor."""
    async with running(lab_config(upstream.base_url), arrangement) as started:
        yield started
