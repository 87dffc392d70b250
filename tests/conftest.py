"""Fixtures that every test may ask for."""

from collections.abc import AsyncIterator

import pytest

from tests.support.upstream import Upstream


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A scripted vendor on a free loopback port."""
    async with Upstream() as scripted:
        yield scripted
