from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from gateway_core.grpc_server import GrpcServer, Limits
from tests.gateway_core.grpc_server.raw import Client, Servicer, client, serving

Connect = Callable[..., Awaitable[Client]]


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()


@pytest.fixture
async def connect(servicer: Servicer) -> AsyncIterator[Connect]:
    servers: list[GrpcServer] = []
    clients: list[Client] = []

    async def connected(limits: Limits | None = None, settings: bytes = b"") -> Client:
        server, port = await serving(servicer, limits)
        servers.append(server)
        clients.append(await client(port, settings))
        return clients[-1]

    yield connected
    for made in clients:
        made.writer.close()
    for server in servers:
        await server.stop(None)
