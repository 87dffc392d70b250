"""Fixtures for tests of the way to providers."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
import uvloop

from gateway_core.config import ProviderConfig, TimeoutsConfig
from gateway_core.upstream.http import Upstream as Client

KEY = "sk-a-secret-key"

MakeClient = Callable[..., Client]


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Runs every test on both loops: what one does with sockets and TLS the other does otherwise."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def make_client() -> AsyncIterator[MakeClient]:
    """Makes clients of a base URL: timeouts by name (`idle=0.1`), the rest of the provider's row likewise."""
    clients: list[Client] = []

    def make(base_url: str, headers: dict[str, str] | None = None, **row: Any) -> Client:
        names = {"connect", "first_byte", "idle", "total"} & row.keys()
        timeouts = TimeoutsConfig(**{f"{name}_seconds": row.pop(name) for name in names})
        config = ProviderConfig(kind="openai", base_url=base_url, timeouts=timeouts, **row)
        clients.append(Client("lab", config, {"authorization": f"Bearer {KEY}", **(headers or {})}))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


async def cancelled(task: "asyncio.Task[Any]") -> float:
    """Cancels a task, asserts that it ends by that, and returns when it was asked to, by the loop's clock."""
    asked_at = asyncio.get_running_loop().time()
    task.cancel()
    await asyncio.wait([task], timeout=1)
    assert task.cancelled()
    return asked_at
