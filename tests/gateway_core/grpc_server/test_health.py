"""A watcher of the health that reads nothing holds up neither who tells of it nor others."""

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub, add_HealthServicer_to_server

from gateway_core.grpc_server import GrpcServer, frames
from gateway_core.services.health import HealthService
from tests.gateway_core.grpc_server.raw import client, head, setting
from tests.support.upstream import reached


async def test_a_watcher_that_reads_nothing_holds_up_nobody() -> None:
    health, server = HealthService(lambda _: None), GrpcServer()
    add_HealthServicer_to_server(health, server)
    health.tell("", is_serving=True)
    port = await server.listen("127.0.0.1:0")
    deaf = await client(port, setting(frames.INITIAL_WINDOW_SIZE, 0))
    watch = frames.frame(frames.DATA, frames.END_STREAM, 1, bytes(5))
    deaf.send(deaf.call(1, head("/grpc.health.v1.Health/Watch")), watch)
    await reached(lambda: any(each.calls.streams for each in server._connections))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        heard = aiter(HealthStub(channel).Watch(HealthCheckRequest(), timeout=10))
        assert (await anext(heard)).status == HealthCheckResponse.SERVING
        health.end()
        assert (await anext(heard)).status == HealthCheckResponse.NOT_SERVING
    deaf.writer.close()
    await server.stop(None)
