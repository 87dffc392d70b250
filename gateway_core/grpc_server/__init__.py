"""A server of gRPC over HTTP/2 of our own: an asyncio.Protocol in the event loop's one thread.

    server = GrpcServer(Limits(message_bytes=MEBIBYTE))
    add_ChatCompletionServiceServicer_to_server(servicer, server)
    port = await server.listen("127.0.0.1:0")
    await server.stop(grace=30)

Servicers are those of grpc.aio, registered by generated code, and see a grpc.aio.ServicerContext. What differs from
grpc.aio: a servicer's exception leaves as UNKNOWN without its words; a caller that leaves cancels the servicer at once,
and closes its generator; the deadline is kept here, whether the client keeps it or not.
"""

from gateway_core.grpc_server.limits import Limits, Parting
from gateway_core.grpc_server.server import GrpcServer

__all__ = ["GrpcServer", "Limits", "Parting"]
