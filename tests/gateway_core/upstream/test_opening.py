"""Tests of opening an answer: what is sent, what is taken, and every way in which it fails."""

import asyncio

import pytest

from gateway_core import errors
from tests.gateway_core.upstream.conftest import KEY, MakeClient
from tests.support.upstream import (
    Answer,
    Cut,
    Reset,
    Silence,
    Upstream,
    answer,
    head,
    json_answer,
    never_accepting,
    reached,
    refusing,
    sse_answer,
)


def now() -> float:
    return asyncio.get_running_loop().time()


async def test_a_request_is_sent_as_it_is_given(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script(json_answer({"id": "1"}, headers={"X-Request-Id": "r1"}))
    client = make_client(upstream.base_url, {"X-Api-Version": "7"})
    opened = await client.open("POST", "/chat/completions?a=b%2Fc", body=b'{"a":1}', headers={"X-Trace": "t"})
    assert (opened.status, opened.headers["x-request-id"]) == (200, "r1")
    assert await opened.read() == b'{"id": "1"}'
    received = upstream.requests[0]
    assert (received.method, received.path) == ("POST", "/v1/chat/completions?a=b%2Fc")
    assert received.body == b'{"a":1}'
    expected = {
        "authorization": f"Bearer {KEY}",
        "content-type": "application/json",
        "user-agent": "headgate",
        "x-api-version": "7",
        "x-trace": "t",
    }
    assert expected.items() <= received.headers.items()
    assert "cookie" not in received.headers


async def test_headers_of_a_request_replace_those_of_the_host(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script(json_answer({}))
    client = make_client(upstream.base_url, {"User-Agent": "mine"})
    await (await client.open("POST", "/x", body=b"", headers={"content-TYPE": "text/plain"})).read()
    assert upstream.requests[0].headers["content-type"] == "text/plain"
    assert upstream.requests[0].headers["user-agent"] == "mine"


async def test_connections_are_reused_and_cookies_are_not_kept(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script(json_answer({}, headers={"set-cookie": "a=b"}), sse_answer([{"a": 1}]))
    client = make_client(upstream.base_url.replace("127.0.0.1", "localhost"))  # cookies need a name
    for _ in range(3):
        await (await client.open("POST", "/x", body=b"{}")).read()
    assert upstream.connection_count == 1
    assert all("cookie" not in received.headers for received in upstream.requests)


async def test_a_large_body_is_sent_whole(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script(json_answer({}))
    body = bytes(range(256)) * 4096 * 5
    await (await make_client(upstream.base_url).open("POST", "/x", body=body)).read()
    assert upstream.requests[0].body == body


async def test_connections_are_no_more_than_configured(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script(json_answer({}))
    client = make_client(upstream.base_url, max_connections=2)

    async def ask() -> bytes:
        return await (await client.open("POST", "/x", body=b"{}")).read()

    assert await asyncio.gather(*(ask() for _ in range(10))) == [b"{}"] * 10
    assert upstream.connection_count == 2


async def test_error_statuses_are_the_callers_to_judge(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script(json_answer({"error": {"message": "slow down"}}, 429, {"Retry-After": "3"}))
    opened = await make_client(upstream.base_url).open("POST", "/x", body=b"{}")
    assert (opened.status, opened.headers.get("retry-after")) == (429, "3")
    assert b"slow down" in await opened.read()


@pytest.mark.parametrize("status", [301, 302, 303, 304, 307, 308])
async def test_redirects_are_not_followed(upstream: Upstream, make_client: MakeClient, status: int) -> None:
    async with Upstream() as elsewhere:
        location = {"location": f"{elsewhere.base_url}/x", "content-length": "0"}
        upstream.script([head(status, location)])
        with pytest.raises(errors.ProviderBroken, match="lab"):
            await make_client(upstream.base_url).open("POST", "/x", body=b"{}")
        assert elsewhere.connection_count == 0


@pytest.mark.parametrize("end", [Cut(), Reset()])
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_pooled_connection_that_the_host_has_closed_does_not_fail_the_call(
    upstream: Upstream, make_client: MakeClient, end: Cut | Reset, method: str
) -> None:
    upstream.script(lambda received: [end] if received.number else json_answer({"n": received.number}))
    client = make_client(upstream.base_url)
    await (await client.open("POST", "/x", body=b"{}")).read()
    assert await (await client.open(method, "/x", body=b"{}")).read() == b'{"n": 0}'
    assert upstream.connection_count == 2


async def test_the_repeated_request_takes_no_other_pooled_connection(
    upstream: Upstream, make_client: MakeClient
) -> None:
    upstream.script(lambda received: [Cut()] if received.number else json_answer({"n": received.number}))
    client = make_client(upstream.base_url)

    async def ask() -> bytes:
        return await (await client.open("POST", "/x", body=b"{}")).read()

    await asyncio.gather(*(ask() for _ in range(3)))
    assert upstream.connection_count == 3
    assert await ask() == b'{"n": 0}'
    assert (upstream.connection_count, len(upstream.requests)) == (4, 5)


async def test_a_large_body_is_repeated_whole(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script(lambda received: [Cut()] if received.number == 1 else json_answer({}))
    client = make_client(upstream.base_url)
    for body in (b"{}", b"x" * 3_000_000):
        await (await client.open("POST", "/x", body=body)).read()
    assert [len(received.body) for received in upstream.requests] == [2, 3_000_000, 3_000_000]


@pytest.mark.parametrize("end", [Cut(), Reset()])
async def test_a_post_on_a_fresh_connection_is_sent_once(
    upstream: Upstream, make_client: MakeClient, end: Cut | Reset
) -> None:
    upstream.script([end])
    with pytest.raises(errors.ProviderBroken):
        await make_client(upstream.base_url).open("POST", "/x", body=b"{}")
    assert len(upstream.requests) == 1


async def test_a_post_that_was_begun_to_be_answered_is_not_repeated(
    upstream: Upstream, make_client: MakeClient
) -> None:
    upstream.script(json_answer({}), [b"HTTP/1.1 20", Cut()])
    client = make_client(upstream.base_url)
    await (await client.open("POST", "/x", body=b"{}")).read()
    with pytest.raises(errors.ProviderBroken):
        await client.open("POST", "/x", body=b"{}")
    assert len(upstream.requests) == 2


async def test_a_post_that_was_worked_on_is_not_repeated(
    upstream: Upstream, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_core.upstream.pool.STALE_SECONDS", -1)
    upstream.script(json_answer({}), [Cut()])
    client = make_client(upstream.base_url)
    await (await client.open("POST", "/x", body=b"{}")).read()
    with pytest.raises(errors.ProviderBroken):
        await client.open("POST", "/x", body=b"{}")
    assert len(upstream.requests) == 2


async def test_a_refused_connection_is_unreachable(make_client: MakeClient) -> None:
    with refusing() as base_url, pytest.raises(errors.ProviderUnreachable) as caught:
        await make_client(base_url).open("POST", "/x", body=b"{}")
    assert caught.value.message == "Provider lab did not accept a connection."
    assert caught.value.metadata == {"provider": "lab"}


async def test_a_host_name_that_does_not_resolve_is_unreachable(make_client: MakeClient) -> None:
    with pytest.raises(errors.ProviderUnreachable, match="does not resolve") as caught:
        await make_client("http://nowhere.invalid/v1").open("POST", "/x", body=b"{}")
    assert "nowhere" not in caught.value.message


GARBAGE: list[Answer] = [
    [b"\x00\x01\x02\x03 garbage\r\n\r\n", Silence()],
    [b"SSH-2.0-OpenSSH_9.6\r\n", Silence()],
    [b"HTTP/1.1 abc OK\r\n\r\n", Silence()],
    [b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", Silence()],
    [b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", Silence()],
    [b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", Silence()],
    [b"HTTP/1.1 200 OK\r\nx-long: " + b"x" * 100_000 + b"\r\n\r\n", Silence()],
    [b"HTTP/1.1 200 OK\r\nx-long: " + b"x" * 70_000 + b"\r\ncontent-length: 2\r\n\r\n{}", Silence()],
    [b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 1000 + b"\r\n", Silence()],
    [b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n", Silence()],
    [b"HTTP/1.1 200", Cut()],
    [b"HTTP/1.1 200", Reset()],
    [Cut()],
    [Reset()],
]


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_what_is_not_an_answer_is_broken(upstream: Upstream, make_client: MakeClient, garbage: Answer) -> None:
    upstream.script(garbage)
    with pytest.raises(errors.ProviderBroken) as caught:
        await make_client(upstream.base_url).open("POST", "/x", body=b"{}")
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 1)
    assert caught.value.metadata == {"provider": "lab"}
    shown = caught.value.message + repr(caught.value)
    assert "lab" in shown
    assert not any(secret in shown for secret in (KEY, "127.0.0.1", str(upstream.port), "http:"))
    # The library's own error knows the URL and the headers.
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


async def test_a_listener_that_never_accepts_times_out_while_connecting(make_client: MakeClient) -> None:
    with never_accepting() as base_url, pytest.raises(errors.ProviderTimeout) as caught:
        await make_client(base_url, connect=0.05).open("POST", "/x", body=b"{}")
    assert caught.value.metadata == {"provider": "lab", "phase": "connect"}


async def test_a_full_pool_times_out_while_connecting(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script([Silence()])
    client = make_client(upstream.base_url, max_connections=1, connect=0.05)
    first = asyncio.ensure_future(client.open("POST", "/x", body=b"{}"))
    await upstream.received()
    with pytest.raises(errors.ProviderTimeout) as caught:
        await client.open("POST", "/x", body=b"{}")
    assert caught.value.metadata["phase"] == "connect"
    first.cancel()
    await asyncio.wait([first])


@pytest.mark.parametrize("silent", [[Silence()], [b"HTTP/1.1 200 OK\r\nx: y", Silence()]])
async def test_a_silent_host_times_out_before_the_first_byte(
    upstream: Upstream, make_client: MakeClient, silent: Answer
) -> None:
    upstream.script(silent)
    with pytest.raises(errors.ProviderTimeout) as caught:
        await make_client(upstream.base_url, first_byte=0.2, idle=0.01).open("POST", "/x", body=b"{}")
    assert caught.value.metadata == {"provider": "lab", "phase": "first_byte"}
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 1)


async def test_the_total_bounds_the_opening_too(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script([Silence()])
    with pytest.raises(errors.ProviderTimeout) as caught:
        await make_client(upstream.base_url, total=0.05).open("POST", "/x", body=b"{}")
    assert caught.value.metadata["phase"] == "total"


async def test_the_callers_deadline_bounds_the_opening(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script([Silence()])
    deadline = now() + 0.05
    with pytest.raises(errors.DeadlineExceeded) as caught:
        await make_client(upstream.base_url).open("POST", "/x", body=b"{}", deadline=deadline)
    assert caught.value.metadata == {"provider": "lab"}
    await asyncio.wait_for(upstream.requests[0].closed.wait(), 1)
    closed_at = upstream.requests[0].closed_at
    assert closed_at is not None
    assert -0.01 <= closed_at - deadline < 0.1


async def test_the_callers_deadline_bounds_the_connecting(make_client: MakeClient) -> None:
    with never_accepting() as base_url, pytest.raises(errors.DeadlineExceeded):
        await make_client(base_url).open("POST", "/x", body=b"{}", deadline=now() + 0.05)


async def test_nothing_is_sent_after_the_deadline(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script(json_answer({}))
    with pytest.raises(errors.DeadlineExceeded):
        await make_client(upstream.base_url).open("POST", "/x", body=b"{}", deadline=now() - 1)
    assert upstream.connection_count == 0


async def test_informational_answers_are_passed_over(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script([b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n", *json_answer({"a": 1})])
    assert await (await make_client(upstream.base_url).open("POST", "/x", body=b"{}")).read() == b'{"a": 1}'


async def test_an_early_refusal_of_a_large_body_is_read(make_client: MakeClient) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for step in answer([b"too large"], status=413):
            assert isinstance(step, bytes)
            writer.write(step)
        await ended.wait()
        writer.close()
        await writer.wait_closed()

    ended = asyncio.Event()
    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        client = make_client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        opened = await client.open("POST", "/x", body=b"x" * 20_000_000)
        assert opened.status == 413
        assert await opened.read() == b"too large"
        ended.set()


@pytest.mark.parametrize("value", ["key\n", "key\r\nx: y", "k\x00"])
def test_a_header_that_would_break_the_request_is_refused_without_being_shown(
    make_client: MakeClient, value: str
) -> None:
    with pytest.raises(ValueError, match="x-key") as caught:
        make_client("http://127.0.0.1/v1", {"x-key": value})
    assert "key\n" not in str(caught.value)


@pytest.mark.parametrize("base_url", ["http://", "http:///v1", "http://user:pass@host/v1"])
def test_a_base_url_that_cannot_be_asked_is_refused(make_client: MakeClient, base_url: str) -> None:
    with pytest.raises(ValueError, match="base_url") as caught:
        make_client(base_url)
    assert "pass@" not in str(caught.value)


async def test_a_closed_client_opens_nothing(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script(json_answer({}))
    client = make_client(upstream.base_url)
    await (await client.open("POST", "/x", body=b"{}")).read()
    await client.close()
    await reached(lambda: upstream.connections[0].closed.is_set())
    with pytest.raises(errors.ShuttingDown):
        await client.open("POST", "/x", body=b"{}")


async def test_a_gzipped_answer_is_decoded(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script(json_answer({"a": "é" * 1000}, gzip=True))
    body = await (await make_client(upstream.base_url).open("POST", "/x", body=b"{}")).read()
    assert body == b'{"a": "' + b"\\u00e9" * 1000 + b'"}'
