import asyncio
import gzip
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson
import pytest
from grpc import StatusCode, aio
from structlog.testing import capture_logs

from rest_bridge.body import InvalidBody
from rest_bridge.config import BridgeConfig
from rest_bridge.endpoint import Endpoint
from rest_bridge.errors import Failure, Refused
from rest_bridge.exchange import Exchange, json_object

Work = Callable[[Exchange], Awaitable[None]]
CONFIG = BridgeConfig(request_body_bytes=1000, body_idle_seconds=0.1, body_seconds=0.4, json_depth=5)


class Caller:
    """The other side of an ASGI call: gives pieces of a body, stays or leaves, keeps the answer."""

    def __init__(self, *pieces: bytes, method: str = "POST", more: bool = False, **headers: str) -> None:
        self.messages: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        for index, piece in enumerate(pieces):
            self.give(piece, more=more or index < len(pieces) - 1)
        if not pieces and not more:
            self.give(b"", more=False)
        names = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": method,
            "path": "/v1/thing",
            "headers": names,
            "client": ("127.0.0.1", 5000),
        }
        self.sent: list[MutableMapping[str, Any]] = []

    def give(self, piece: bytes, *, more: bool) -> None:
        self.messages.put_nowait({"type": "http.request", "body": piece, "more_body": more})

    def leave(self) -> None:
        self.messages.put_nowait({"type": "http.disconnect"})

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.sent.append(message)

    def exchange(self, config: BridgeConfig = CONFIG) -> Exchange:
        return Exchange(self.scope, self.messages.get, self.send, config, "openai")

    async def ask(self, work: Work, config: BridgeConfig = CONFIG) -> tuple[int, bytes]:
        endpoint = Endpoint(config, "openai", ("GET", "HEAD", "POST"), work, document)
        await asyncio.wait_for(endpoint(self.scope, self.messages.get, self.send), 5)
        return self.status, self.body

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"]) if self.sent else 0

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])


def document(failure: Failure) -> bytes:
    return orjson.dumps({"message": failure.message, "param": failure.param})


async def echo(exchange: Exchange) -> None:
    await exchange.respond(200, orjson.dumps(await exchange.body_json()))


# ---- the body ----


@pytest.mark.parametrize("pieces", [(b'{"a":[1]}',), (b'{"a', b"", b'":[1]}'), (b'{"a":[1]}', b"")])
async def test_a_body_is_read_whole_whatever_its_pieces_and_its_type(pieces: tuple[bytes, ...]) -> None:
    assert await Caller(*pieces).ask(echo) == (200, b'{"a":[1]}')
    assert await Caller(*pieces, content_type="text/plain").ask(echo) == (200, b'{"a":[1]}')


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (b'{"a":', "line 1, column 6"),
        (b'{"a":\n\n  nope}', "line 3, column"),
        (b'{"a":"\xff"}', "UTF-8"),
        (b'{"a":"\\ud800"}', "not valid JSON"),
        (b'{"a":NaN}', "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'"text"', "must be a JSON object"),
        (b"12", "must be a JSON object"),
        (b"{}{}", "not valid JSON"),
        (b'{"a":' + b"[" * 5 + b"]" * 5 + b"}", "deeper than 5"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "deeper than 5"),
        (b"[" * 900, "not valid JSON"),
    ],
)
async def test_a_body_that_is_no_json_object_is_answered_with_400(body: bytes, words: str) -> None:
    status, answer = await Caller(body).ask(echo)
    assert status == 400
    assert words in orjson.loads(answer)["message"]


def test_brackets_in_texts_and_breadth_are_no_depth() -> None:
    assert json_object(b'{"a":"[[[[[[[[[[{{{{{{{{"}', 2) == {"a": "[[[[[[[[[[{{{{{{{{"}
    wide = {"a": [[index] for index in range(50)]}
    assert json_object(orjson.dumps(wide), 3) == wide
    with pytest.raises(InvalidBody):
        json_object(orjson.dumps(wide), 2)


def test_nesting_beyond_what_the_parser_takes_is_refused() -> None:
    with pytest.raises(InvalidBody):
        json_object(b'{"a":' + b"[" * 1_000_000, 100)


async def test_a_body_over_the_limit_is_refused_by_its_length_before_it_is_read() -> None:
    caller = Caller(more=True, content_length="1001")
    assert (await caller.ask(echo))[0] == 413
    assert caller.messages.empty()
    assert (await Caller(content_length="9" * 4000).ask(echo))[0] == 413


async def test_a_body_over_the_limit_is_refused_while_it_is_read() -> None:
    caller = Caller(b"x" * 600, b"x" * 600, b"never read")
    assert (await caller.ask(echo))[0] == 413
    assert caller.messages.qsize() == 1
    assert (await Caller(b'{"a":"' + b"x" * 992 + b'"}').ask(echo))[0] == 200


async def test_a_body_that_pauses_for_too_long_is_answered_with_408() -> None:
    caller = Caller(b'{"a"', more=True)
    status, answer = await caller.ask(echo)
    assert status == 408
    assert b"in time" in answer
    assert caller.headers[b"connection"] == b"close"


async def test_a_body_that_trickles_is_ended_by_the_time_for_the_whole() -> None:
    caller = Caller(b"{", more=True)

    async def trickle() -> None:
        while True:
            await asyncio.sleep(0.03)
            caller.give(b" ", more=True)

    trickling = asyncio.create_task(trickle())
    assert (await caller.ask(echo))[0] == 408
    trickling.cancel()


async def test_a_compressed_body_is_refused() -> None:
    assert (await Caller(gzip.compress(b"{}"), content_encoding="gzip").ask(echo))[0] == 415
    assert (await Caller(b"{}", content_encoding="identity").ask(echo))[0] == 200


async def test_an_answer_before_the_body_that_the_caller_still_holds_back_closes_the_connection() -> None:
    caller = Caller(more=True, content_length="2000", expect="100-continue")
    assert (await caller.ask(echo))[0] == 413
    assert caller.headers[b"connection"] == b"close"


# ---- the deadline, the metadata ----


@pytest.mark.parametrize("given", ["0", "-1", "nan", "inf", "1e999", "soon", "", "1;2"])
async def test_a_timeout_that_is_no_time_is_answered_with_400_and_its_name(given: str) -> None:
    status, answer = await Caller(b"{}", x_request_timeout=given).ask(echo)
    assert status == 400
    assert orjson.loads(answer)["param"] == "x-request-timeout"


async def test_the_timeout_of_the_caller_counts_from_the_request() -> None:
    exchange = Caller(b"{}", x_request_timeout="1.5").exchange()
    exchange.start()
    await asyncio.sleep(0.02)
    await exchange.body()
    left = exchange.timeout()
    assert left is not None
    assert 0.5 < left < 1.485
    exchange.close()


async def test_without_a_timeout_there_is_none() -> None:
    exchange = Caller(b"{}").exchange()
    exchange.start()
    assert exchange.timeout() is None
    exchange.close()


async def test_a_body_that_outlasts_the_callers_timeout_is_answered_with_408() -> None:
    status, answer = await Caller(b"{", more=True, x_request_timeout="0.02").ask(echo)
    assert status == 408
    assert b"x-request-timeout" in answer


def metadata(**headers: str) -> dict[str, str]:
    caller = Caller()
    caller.scope["headers"] = [
        (name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()
    ]
    exchange = Exchange(caller.scope, caller.messages.get, caller.send, CONFIG, "ollama")
    return dict(exchange.metadata())


async def test_the_metadata_says_who_calls_through_what() -> None:
    told = metadata(
        authorization="Bearer hg-1",
        x_request_id="id-1",
        user_agent="OpenAI/Python",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        tracestate="a=b",
        cookie="secret",
        x_headgate_client="spoofed",
    )
    assert told == {
        "authorization": "Bearer hg-1",
        "x-request-id": "id-1",
        "x-headgate-user-agent": "OpenAI/Python",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate": "a=b",
        "x-headgate-dialect": "ollama",
        "x-headgate-client": "127.0.0.1",
    }


async def test_a_key_in_another_header_is_a_bearer_key_where_there_is_no_other() -> None:
    assert metadata(x_api_key="k")["authorization"] == "Bearer k"
    assert metadata(api_key="k")["authorization"] == "Bearer k"
    assert metadata(x_api_key="k", authorization="Bearer other")["authorization"] == "Bearer other"


async def test_what_metadata_cannot_carry_stays_behind() -> None:
    assert "x-headgate-user-agent" not in metadata(user_agent="caf\xe9")
    assert "x-headgate-user-agent" not in metadata(user_agent="x" * 513)
    assert "authorization" not in metadata(authorization="Bearer caf\xe9")
    assert "authorization" not in metadata(x_api_key="k" * 9000)


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "6.6.6.6, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "6.6.6.6, 203.0.113.9, ::1", "203.0.113.9"),
        ("198.51.100.1", "203.0.113.9", "198.51.100.1"),
        ("127.0.0.1", "caf\xe9", "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", " , ,", "127.0.0.1"),
    ],
)
async def test_a_forwarded_address_is_believed_from_proxies_only(peer: str, forwarded: str, client: str) -> None:
    caller = Caller(x_forwarded_for=forwarded)
    caller.scope["client"] = (peer, 1)
    assert caller.exchange().client == client


async def test_every_answer_has_a_request_id_and_a_bad_one_is_refused() -> None:
    caller = Caller(b"{}", x_request_id="mine")
    await caller.ask(echo)
    assert caller.headers[b"x-request-id"] == b"mine"
    caller = Caller(b"{}")
    await caller.ask(echo)
    assert len(caller.headers[b"x-request-id"]) == 36
    caller = Caller(b"{}", x_request_id="two words")
    assert (await caller.ask(echo))[0] == 400
    assert caller.headers[b"x-request-id"] != b"two words"


# ---- failures ----


async def test_a_method_that_the_endpoint_lacks_is_answered_with_405() -> None:
    caller = Caller(method="PUT")
    assert (await caller.ask(echo))[0] == 405
    assert caller.headers[b"allow"] == b"GET, HEAD, POST"


async def test_a_head_request_is_answered_without_a_body() -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.respond(200, b"Ollama is running")

    caller = Caller(method="HEAD")
    assert await caller.ask(answer) == (200, b"")
    assert caller.headers[b"content-length"] == b"17"


async def test_a_failed_rpc_is_answered_in_the_dialect() -> None:
    async def work(exchange: Exchange) -> None:
        trailing = aio.Metadata(("x-headgate-request-id", "id-1"))
        raise aio.AioRpcError(StatusCode.UNAVAILABLE, aio.Metadata(), trailing, "ipv4:10.0.0.1")

    caller = Caller(b"{}")
    with capture_logs() as lines:
        status, answer = await caller.ask(work)
    assert status == 503
    assert b"10.0.0.1" not in answer
    assert caller.headers[b"x-headgate-request-id"] == b"id-1"
    assert [line["status"] for line in lines] == [503]


async def test_a_refusal_of_the_bridge_is_logged_once_without_the_query() -> None:
    caller = Caller(b"nope", x_request_id="id-1")
    caller.scope["query_string"] = b"key=secret"
    with capture_logs() as lines:
        await caller.ask(echo)
    (line,) = lines
    assert (line["event"], line["status"], line["path"], line["request_id"]) == (
        "request_refused",
        400,
        "/v1/thing",
        "id-1",
    )
    assert "secret" not in repr(line)


async def test_a_fault_of_the_bridge_is_logged_in_full_and_answered_without_detail() -> None:
    async def work(exchange: Exchange) -> None:
        raise KeyError("inner secret")

    with capture_logs() as lines:
        status, answer = await Caller(b"{}").ask(work)
    assert status == 500
    assert b"secret" not in answer
    assert isinstance(lines[0]["exc_info"], KeyError)


async def test_a_failure_after_the_start_breaks_the_answer_off() -> None:
    async def work(exchange: Exchange) -> None:
        await exchange.start_stream(200, ())
        raise Refused(Failure.internal())

    with pytest.raises(Refused):
        await Caller(b"{}").ask(work)


# ---- leaving ----


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_caller_that_leaves_cancels_the_work_quietly(method: str) -> None:
    reached, cancelled = asyncio.Event(), asyncio.Event()

    async def work(exchange: Exchange) -> None:
        if method == "POST":
            await exchange.body_json()
        reached.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    caller = Caller(b"{}", method=method)
    asked = asyncio.create_task(caller.ask(work))
    await reached.wait()
    caller.leave()
    assert await asked == (0, b"")
    assert cancelled.is_set()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_caller_that_leaves_a_stream_cancels_it_quietly() -> None:
    caller = Caller(b"{}")

    async def work(exchange: Exchange) -> None:
        await exchange.body_json()
        await exchange.start_stream(200, ())
        while True:
            await exchange.send(b"data: 1\n\n")
            caller.leave()
            await asyncio.sleep(0.001)

    assert (await caller.ask(work))[0] == 200
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_caller_that_leaves_while_it_sends_is_recorded() -> None:
    caller = Caller(b"{", more=True)
    caller.leave()
    with capture_logs() as lines:
        assert await caller.ask(echo) == (0, b"")
    assert [line["status"] for line in lines] == [499]


async def test_a_failure_caused_by_the_leaving_is_not_answered() -> None:
    async def work(exchange: Exchange) -> None:
        await exchange.body_json()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise aio.AioRpcError(StatusCode.CANCELLED, aio.Metadata(), aio.Metadata()) from None

    caller = Caller(b"{}")
    caller.leave()
    assert await caller.ask(work) == (0, b"")


async def test_a_cancellation_that_is_not_the_callers_passes_through() -> None:
    reached = asyncio.Event()

    async def work(exchange: Exchange) -> None:
        reached.set()
        await asyncio.sleep(60)

    endpoint = Endpoint(CONFIG, "openai", ("POST",), work, document)
    caller = Caller(b"{}")
    task = asyncio.create_task(endpoint(caller.scope, caller.messages.get, caller.send))
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_end_of_the_answer_is_no_leaving() -> None:
    caller = Caller(b"{}")

    async def work(exchange: Exchange) -> None:
        await echo(exchange)
        caller.leave()
        await asyncio.sleep(0.01)

    assert (await caller.ask(work))[0] == 200


async def test_a_whole_answer_has_its_length_and_type() -> None:
    caller = Caller(b"{}")
    await caller.ask(echo)
    assert [message["type"] for message in caller.sent] == ["http.response.start", "http.response.body"]
    assert caller.headers[b"content-length"] == b"2"
    assert caller.headers[b"content-type"] == b"application/json"
