"""The floor under gRPC in Python: a grpc.aio server whose methods do nothing, in a process of its own.

`python -m bench.floor --port PORT` serves until SIGTERM or SIGINT. Whatever is built on grpc.aio costs at least this.
"""

import argparse
import asyncio
import signal
from collections.abc import AsyncGenerator

import grpc
import uvloop
from google.protobuf.empty_pb2 import Empty

from bench.answers import EVENT_COUNT

SERVICE = "bench.Floor"
UNARY = "Answer"
STREAM = "AnswerInPieces"

_EMPTY = Empty()


async def answer(_request: Empty, _context: "grpc.aio.ServicerContext[Empty, Empty]") -> Empty:
    """One empty message."""
    return _EMPTY


async def answer_in_pieces(
    _request: Empty, _context: "grpc.aio.ServicerContext[Empty, Empty]"
) -> AsyncGenerator[Empty, None]:
    """As many empty messages as a stream has events."""
    for _ in range(EVENT_COUNT):
        yield _EMPTY


async def serve(port: int) -> None:
    """Serves on the loopback until SIGTERM or SIGINT."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    codec = (Empty.FromString, Empty.SerializeToString)
    methods = {
        UNARY: grpc.unary_unary_rpc_method_handler(answer, *codec),
        STREAM: grpc.unary_stream_rpc_method_handler(answer_in_pieces, *codec),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await ended.wait()
    await server.stop(grace=0)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.floor", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
