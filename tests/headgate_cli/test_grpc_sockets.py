import asyncio
import os
import socket
from pathlib import Path

import pytest

from headgate_cli.grpc_sockets import connection_count, refuse_new, stop_listening

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="workers need Linux")


def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


async def test_a_port_is_listened_at_no_more_and_its_connections_stay() -> None:
    with listener() as listening, socket.create_connection(listening.getsockname()) as client:
        port = listening.getsockname()[1]
        accepted, _ = listening.accept()
        with accepted:
            assert connection_count(port) == 1
            await stop_listening(port)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))
            assert connection_count(port) == 1
            client.sendall(b"still")
            assert accepted.recv(5) == b"still"
        assert connection_count(port) == 0


async def test_descriptors_do_not_leak() -> None:
    with listener() as listening:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            connection_count(listening.getsockname()[1])
        await stop_listening(listening.getsockname()[1])
        assert len(os.listdir("/proc/self/fd")) == before


async def test_a_connection_that_is_refused_for_now_meets_the_other_listener() -> None:
    with socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind(("127.0.0.1", 0 if one is first else first.getsockname()[1]))
            one.listen()
            one.setblocking(False)
        refuse_new(first.fileno())
        loop = asyncio.get_running_loop()
        clients = [loop.run_in_executor(None, socket.create_connection, first.getsockname()) for _ in range(8)]
        await asyncio.wait(clients, timeout=0.2)
        with pytest.raises(BlockingIOError):
            first.accept()
        first.close()
        for client in await asyncio.wait_for(asyncio.gather(*clients), 10):
            client.close()
