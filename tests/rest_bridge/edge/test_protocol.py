import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import orjson
import pytest
import structlog
import uvicorn
import uvloop
from structlog.testing import capture_logs
from uvicorn.server import ServerState

from rest_bridge.config import BridgeConfig
from rest_bridge.endpoint import Endpoint
from rest_bridge.exchange import Exchange
from rest_bridge.protocol import LimitedHttpProtocol, limited_protocol
from tests.rest_bridge.edge.eventually import eventually

LIMITS = BridgeConfig(
    request_body_bytes=200_000,
    header_bytes=8192,
    header_seconds=0.3,
    body_idle_seconds=0.3,
    connections_per_client=5,
    pipelined_requests=8,
)
METHODS = ("GET", "HEAD", "POST", "OPTIONS")
Run = Callable[[Coroutine[Any, Any, None]], None]
Work = Callable[[Exchange], Awaitable[None]]
POST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: "
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    def ended(test: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(asyncio.wait_for(test, 20))

    return ended


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with capture_logs():
        yield
    structlog.reset_defaults()


class Serving:
    """A server on a free port, and what it holds."""

    def __init__(self, port: int, state: ServerState, protocol: type[LimitedHttpProtocol]) -> None:
        self.port = port
        self.state = state
        self.protocol = protocol
        self.connected: list[Client] = []

    async def connect(self) -> "Client":
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.connected.append(client)
        return client

    async def ask(self, *pieces: bytes) -> tuple[int, dict[str, str], bytes]:
        client = await self.connect()
        try:
            for piece in pieces:
                client.writer.write(piece)
                await asyncio.sleep(0.005)
            return await client.answer()
        finally:
            await client.close()


class Client:
    """A connection that speaks bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 5)).decode().split("\r\n")
        headers = dict(re.findall(r"([^:\n]+): (.*?)(?:\n|$)", "\n".join(head[1:])))
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await self.reader.readline(), 16):
                body += await self.reader.readexactly(size)
                await self.reader.readline()
            await self.reader.readline()
        else:
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(head[0].split()[1]), headers, body

    async def rest(self) -> bytes:
        try:
            return await asyncio.wait_for(self.reader.read(), 5)
        except ConnectionError:
            return b""

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()

    def cut(self) -> None:
        """Leaves as a killed process does."""
        self.writer.transport.abort()


async def echo(exchange: Exchange) -> None:
    if exchange.method == "POST":
        body = await exchange.body()
        await exchange.respond(200, body[:100] if len(body) > 100 else body, [(b"x-length", b"%d" % len(body))])
    else:
        await exchange.respond(200, str(exchange.scope["path"]).encode())


@asynccontextmanager
async def serving(work: Work = echo, limits: BridgeConfig = LIMITS) -> AsyncIterator[Serving]:
    app = Endpoint(limits, "openai", METHODS, work, lambda failure: orjson.dumps({"message": failure.message}))
    protocol = limited_protocol(limits)
    config = uvicorn.Config(
        app, http=protocol, ws="none", lifespan="off", log_config=None, access_log=False, proxy_headers=False
    )
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: protocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0, family=socket.AF_INET
    )
    serving = Serving(server.sockets[0].getsockname()[1], state, protocol)
    try:
        yield serving
        # Whatever a test did, nothing stays behind.
        await eventually(lambda: not state.tasks)
        await eventually(lambda: not state.connections)
        assert not protocol.clients
    finally:
        for client in serving.connected:
            client.cut()
        server.close()
        await server.wait_closed()


# ---- plain service ----


def test_requests_follow_each_other_on_one_connection(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            for text in (b"one", b"two"):
                client.writer.write(POST + b"3\r\n\r\n" + text)
                assert (await client.answer())[2] == text
            client.writer.write(b"HEAD /path HTTP/1.1\r\n\r\n" + GET)
            assert b"content-length: 5" in await client.reader.readuntil(b"\r\n\r\n")
            assert (await client.answer())[2] == b"/"
            await client.close()

    run(test())


def test_a_request_may_come_byte_by_byte(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            for byte in POST + b"3\r\n\r\none":
                client.writer.write(bytes([byte]))
                await client.writer.drain()
                await asyncio.sleep(0)
            assert (await client.answer())[2] == b"one"
            await client.close()

    run(test())


def test_a_chunked_body_is_put_together_and_its_trailers_are_no_headers(run: Run) -> None:
    async def work(exchange: Exchange) -> None:
        body = await exchange.body()
        names = b",".join(name for name, _ in exchange.scope["headers"])
        await exchange.respond(200, body + b"|" + names)

    async def test() -> None:
        async with serving(work) as server:
            head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
            body = b"3\r\none\r\n4;ext=1\r\nmore\r\n0\r\nauthorization: Bearer x\r\n\r\n"
            answered = await server.ask(head, body)
            assert answered[2] == b"onemore|host,transfer-encoding"
            assert (await server.ask(head + body))[2] == answered[2]

    run(test())


def test_a_client_that_expects_100_gets_it_before_it_sends(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            client.writer.write(POST + b"3\r\nexpect: 100-continue\r\n\r\n")
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.writer.write(b"one")
            assert (await client.answer())[2] == b"one"
            await client.close()

    run(test())


def test_a_client_that_expects_100_for_too_much_gets_413_instead(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            client.writer.write(POST + b"300000\r\nexpect: 100-continue\r\n\r\n")
            status, headers, _ = await client.answer()
            assert (status, headers["connection"]) == (413, "close")
            assert await client.rest() == b""
            await client.close()

    run(test())


def test_pipelined_requests_are_answered_in_their_order(run: Run) -> None:
    async def work(exchange: Exchange) -> None:
        path = str(exchange.scope["path"])
        await asyncio.sleep(0.05 if path == "/0" else 0)
        await echo(exchange)

    async def test() -> None:
        async with serving(work) as server:
            client = await server.connect()
            requests = [b"GET /%d HTTP/1.1\r\n\r\n" % number for number in range(6)]
            client.writer.write(b"".join(requests[:3]))
            await asyncio.sleep(0.01)
            client.writer.write(b"".join(requests[3:]))
            assert [(await client.answer())[2] for _ in requests] == [b"/%d" % number for number in range(6)]
            await client.close()

    run(test())


def test_too_many_pipelined_requests_close_the_connection(run: Run) -> None:
    async def work(exchange: Exchange) -> None:
        await asyncio.sleep(60)

    async def test() -> None:
        async with serving(work) as server:
            client = await server.connect()
            client.writer.write(GET * 1000)
            assert await client.rest() == b""
            await client.close()

    run(test())


@pytest.mark.parametrize("upgrade", [b"Upgrade: h2c", b"upgrade: websocket", b"UPGRADE: anything"])
def test_an_offered_upgrade_is_passed_over_and_the_body_kept(run: Run, upgrade: bytes) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            offer = b"\r\nConnection: Upgrade, HTTP2-Settings\r\n" + upgrade + b"\r\nHTTP2-Settings: AAEAAEAA\r\n\r\n"
            for _ in range(2):
                client.writer.write(POST + b"3" + offer)
                await asyncio.sleep(0.01)
                client.writer.write(b"one")
                assert (await client.answer())[2] == b"one"
            await client.close()

    run(test())


def test_an_upgrade_offered_in_pieces_never_makes_a_request_of_its_body(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            body = b"GET /smuggled HTTP/1.1\r\n\r\n"
            client.writer.write(POST + b"%d\r\nConnection: upgrade\r\nUp" % len(body))
            await asyncio.sleep(0.02)
            client.writer.write(b"grade: h2c\r\n\r\n")
            await asyncio.sleep(0.02)
            client.writer.write(body)
            assert b"smuggled" not in await client.rest()
            await client.close()

    run(test())


# ---- limits on heads ----


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET http:// HTTP/1.1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\na\0b: c\r\n\r\n",
        b"GET / HTTP/1.1\r\na: b\0c\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0" * 100,
    ],
)
def test_what_is_no_http_is_answered_with_400_and_closed(run: Run, request_bytes: bytes) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            client.writer.write(request_bytes)
            status, headers, body = await client.answer()
            assert (status, headers["connection"]) == (400, "close")
            assert orjson.loads(body)["error"]["message"]
            assert await client.rest() == b""
            await client.close()
            assert (await server.ask(GET))[0] == 200

    run(test())


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\na: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 2000 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"x" * 9000 + b": b\r\n\r\n", 431),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\na: " + b"x" * 300_000, 431),
        (b"GET /" + b"x" * 300_000, 414),
        (b"GET / HTTP/1.1\r\na: " + b"x" * 8000 + b"\r\n\r\n", 200),
    ],
)
@pytest.mark.parametrize("piece", [1000, 1_000_000])
def test_a_head_is_bounded_however_it_comes(run: Run, head: bytes, status: int, piece: int) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            for start in range(0, len(head), piece):
                client.writer.write(head[start : start + piece])
                if start < 20_000:
                    await asyncio.sleep(0.001)
            assert (await client.answer())[0] == status
            await client.close()

    run(test())


def test_trailers_and_chunk_extensions_are_bounded(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            head = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n"
            assert (await server.ask(head + b"0\r\na: ", b"x" * 5000, b"x" * 5000))[0] == 400
            assert (await server.ask(head, b"1;", b"x" * 5000, b"x" * 5000))[0] == 400
            assert (await server.ask(b"\r\n", b"\r\n" * 5000))[0] == 431

    run(test())


def test_a_large_body_with_a_pipelined_head_behind_it_is_no_large_head(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            body = b"x" * 100_000
            client.writer.write(POST + b"100000\r\n\r\n" + body + GET[:10])
            assert (await client.answer())[1]["x-length"] == "100000"
            client.writer.write(GET[10:])
            assert (await client.answer())[0] == 200
            await client.close()

    run(test())


# ---- limits on time and number ----


def test_a_slow_head_is_answered_with_408(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            client.writer.write(b"GET / HT")
            status, headers, _ = await client.answer()
            assert (status, headers["connection"]) == (408, "close")
            assert await client.rest() == b""
            await client.close()

    run(test())


def test_a_head_that_trickles_after_an_answer_is_ended_too(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            client.writer.write(GET)
            assert (await client.answer())[0] == 200

            async def trickle() -> None:
                for byte in GET[:-2] * 100:
                    client.writer.write(bytes([byte]))
                    await asyncio.sleep(0.02)

            trickling = asyncio.create_task(trickle())
            assert (await client.answer())[0] == 408
            trickling.cancel()
            await client.close()

    run(test())


def test_a_connection_that_says_nothing_is_closed_without_a_word(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            assert await client.rest() == b""
            await client.close()

    run(test())


def test_a_head_begun_behind_a_long_answer_does_not_break_it_off(run: Run) -> None:
    async def work(exchange: Exchange) -> None:
        if exchange.scope["path"] == "/long":
            await asyncio.sleep(0.8)
        await echo(exchange)

    async def test() -> None:
        async with serving(work) as server:
            client = await server.connect()
            client.writer.write(b"GET /long HTTP/1.1\r\n\r\n" + GET[:3])
            await asyncio.sleep(0.01)
            client.writer.write(GET[3:6])
            assert (await client.answer())[2] == b"/long"
            client.writer.write(GET[6:])
            assert (await client.answer())[2] == b"/"
            await client.close()

    run(test())


def test_a_slow_body_is_answered_with_408(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            client.writer.write(POST + b"10\r\n\r\nhalf")
            status, headers, body = await client.answer()
            assert (status, headers["connection"]) == (408, "close")
            assert b"in time" in body
            assert await client.rest() == b""
            await client.close()

    run(test())


def test_one_address_has_a_bounded_number_of_connections(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            clients = [await server.connect() for _ in range(LIMITS.connections_per_client)]
            for client in clients:
                client.writer.write(GET)
                assert (await client.answer())[0] == 200
            other = await server.connect()
            status, headers, _ = await other.answer()
            assert (status, headers["connection"]) == (429, "close")
            await other.close()
            await clients.pop().close()
            await eventually(lambda: server.protocol.clients["127.0.0.1"] < LIMITS.connections_per_client)
            assert (await server.ask(GET))[0] == 200
            for client in clients:
                await client.close()

    run(test())


# ---- answers before the body is there ----


@pytest.mark.parametrize("close", [False, True])
def test_a_body_over_the_limit_is_answered_while_the_client_still_sends(run: Run, close: bool) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            connection = b"connection: close\r\n" if close else b""
            client.writer.write(b"POST / HTTP/1.1\r\n" + connection + b"content-length: 300000\r\n\r\n")
            for _ in range(10):
                client.writer.write(b"x" * 15_000)
                await client.writer.drain()
                await asyncio.sleep(0.002)
            assert (await client.answer())[0] == 413
            client.writer.write(b"x" * 150_000)
            if not close:
                client.writer.write(GET)
                assert (await client.answer())[2] == b"/"
            await client.close()

    run(test())


def test_a_chunked_body_over_the_limit_is_answered_with_413(run: Run) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            client.writer.write(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
            for _ in range(12):
                client.writer.write(b"5000\r\n" + b"x" * 0x5000 + b"\r\n")
            assert (await client.answer())[0] == 413
            await client.close()

    run(test())


@pytest.mark.parametrize("close", [False, True])
def test_an_unread_body_is_awaited_for_a_while_only(run: Run, close: bool) -> None:
    async def test() -> None:
        async with serving() as server:
            client = await server.connect()
            connection = b"connection: close\r\n" if close else b""
            client.writer.write(b"POST / HTTP/1.1\r\n" + connection + b"content-length: 300000\r\n\r\n")
            assert (await client.answer())[0] == 413

            async def trickle() -> None:
                while True:
                    client.writer.write(b"x")
                    await asyncio.sleep(0.02)

            trickling = asyncio.create_task(trickle())
            await eventually(lambda: not server.state.connections, 3)
            trickling.cancel()
            await client.close()

    run(test())


def test_an_endless_unread_body_ends_the_connection(run: Run) -> None:
    async def test() -> None:
        slow = BridgeConfig(request_body_bytes=100_000, header_seconds=60)
        async with serving(limits=slow) as server:
            client = await server.connect()
            client.writer.write(POST + b"1000000000000\r\n\r\n")
            assert (await client.answer())[0] == 413

            async def sends_for_ever() -> None:
                while True:
                    client.writer.write(b"x" * 50_000)
                    await client.writer.drain()
                    await asyncio.sleep(0.001)

            with pytest.raises(ConnectionError):
                await sends_for_ever()
            await client.close()

    run(test())


# ---- clients that leave ----


class Phases:
    """Work that stands still at one phase, and tells when it is cancelled."""

    def __init__(self, phase: str) -> None:
        self.phase = phase
        self.reached = asyncio.Event()
        self.cancelled_at = 0.0

    async def __call__(self, exchange: Exchange) -> None:
        try:
            if self.phase == "body":
                self.reached.set()
            await exchange.body()
            if self.phase in ("stream", "blocked"):
                await exchange.start_stream(200, ())
                await exchange.send(b"first")
            while self.phase == "blocked":
                await exchange.send(b"x" * 100_000)
                self.reached.set()
            self.reached.set()
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled_at = asyncio.get_running_loop().time()
            raise


@pytest.mark.parametrize("phase", ["body", "unary", "stream", "blocked"])
@pytest.mark.parametrize("way", ["cut", "close"])
def test_a_client_that_leaves_cancels_the_work_in_every_phase(run: Run, phase: str, way: str) -> None:
    async def test() -> None:
        work = Phases(phase)
        with capture_logs() as lines:
            async with serving(work) as server:
                client = await server.connect()
                client.writer.write(POST + (b"9" if phase == "body" else b"3") + b"\r\n\r\none")
                await asyncio.wait_for(work.reached.wait(), 5)
                left_at = asyncio.get_running_loop().time()
                if way == "cut":
                    client.cut()
                else:
                    await client.close()
                await eventually(lambda: work.cancelled_at)
                assert work.cancelled_at - left_at < 1
        assert [line["status"] for line in lines] == ([499] if phase == "body" else [])

    run(test())


def test_a_client_that_leaves_with_requests_in_its_pipeline_cancels_the_running_one(run: Run) -> None:
    async def test() -> None:
        work = Phases("unary")
        async with serving(work) as server:
            client = await server.connect()
            client.writer.write((POST + b"3\r\n\r\none") * 3)
            await asyncio.wait_for(work.reached.wait(), 5)
            client.cut()
            await eventually(lambda: work.cancelled_at)

    run(test())


def test_garbage_behind_a_running_request_ends_it(run: Run) -> None:
    async def test() -> None:
        work = Phases("stream")
        async with serving(work) as server:
            client = await server.connect()
            client.writer.write(POST + b"3\r\n\r\none")
            await asyncio.wait_for(work.reached.wait(), 5)
            client.writer.write(b"garbage \0\r\n\r\n")
            await eventually(lambda: work.cancelled_at)
            assert b"400" not in await client.rest()
            await client.close()

    run(test())


def test_garbage_in_a_body_is_answered_with_400_and_ends_the_work(run: Run) -> None:
    async def test() -> None:
        work = Phases("body")
        async with serving(work) as server:
            client = await server.connect()
            client.writer.write(b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
            await asyncio.wait_for(work.reached.wait(), 5)
            client.writer.write(b"garbage\r\n")
            assert (await client.answer())[0] == 400
            await eventually(lambda: work.cancelled_at)
            await client.close()

    run(test())


def test_a_finished_answer_is_not_taken_for_a_client_that_left(run: Run) -> None:
    ended: list[bool] = []

    async def work(exchange: Exchange) -> None:
        await echo(exchange)
        await asyncio.sleep(0.05)
        ended.append(exchange.left)

    async def test() -> None:
        async with serving(work) as server:
            client = await server.connect()
            client.writer.write(GET + GET)
            await client.answer()
            await client.answer()
            client.cut()
            await eventually(lambda: len(ended) == 2)
        assert ended == [False, False]

    run(test())


# ---- slow readers, the end of the server ----


def test_a_slow_reader_stops_the_writing(run: Run) -> None:
    sent: list[int] = []

    async def work(exchange: Exchange) -> None:
        await exchange.start_stream(200, ())
        for _ in range(10_000):
            await exchange.send(b"x" * 4096)
            sent.append(4096)
        await exchange.end()

    async def test() -> None:
        async with serving(work) as server:
            listener = socket.create_connection(("127.0.0.1", server.port))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            listener.sendall(GET)
            before = -1
            while before != len(sent) or not sent:
                before = len(sent)
                await asyncio.sleep(0.1)
            (connection,) = server.state.connections
            transport = connection.transport
            assert transport.get_write_buffer_size() <= LIMITS.write_buffer_bytes + 4096 + 16
            assert sum(sent) < 40_960_000
            listener.close()

    run(test())


def test_an_answer_that_outlasts_the_grace_is_broken_off_without_a_traceback(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        work = Phases("stream")
        async with serving(work) as server:
            client = await server.connect()
            client.writer.write(POST + b"3\r\n\r\none")
            await asyncio.wait_for(work.reached.wait(), 5)
            for task in server.state.tasks:
                task.cancel()
            assert (await client.rest()).endswith(b"first\r\n")
            await client.close()
        assert not caplog.records

    run(test())
