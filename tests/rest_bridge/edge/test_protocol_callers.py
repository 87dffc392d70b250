"""What one caller may hold of the server where a proxy stands between: requests under way, not the proxy's connections."""

from dataclasses import replace

import pytest

from rest_bridge.caller import forwarded_caller
from tests.rest_bridge.edge.eventually import eventually
from tests.rest_bridge.edge.serving import GET, LIMITS, POST, Client, Run, Serving, serving

PROXY = frozenset({"127.0.0.1"})
BEHIND = replace(LIMITS, connections_per_client=3, body_idle_seconds=60, header_seconds=5, trusted_proxies=PROXY)


def from_(address: str, head: bytes = GET) -> bytes:
    """A request as a proxy passes it on."""
    return head.replace(b"host: x\r\n", b"host: x\r\nx-forwarded-for: " + address.encode() + b"\r\n")


async def half_sent(server: Serving, address: str) -> Client:
    client = await server.connect()
    client.writer.write(from_(address, POST) + b"10\r\n\r\nhalf")
    return client


def test_one_caller_behind_a_proxy_does_not_shut_out_the_others(run: Run) -> None:
    async def test() -> None:
        async with serving(limits=BEHIND) as server:
            held = [await half_sent(server, "198.51.100.1") for _ in range(3)]
            await eventually(lambda: server.protocol.clients["198.51.100.1"] == 3)
            refused = await server.connect()
            refused.writer.write(from_("198.51.100.1"))
            status, headers, body = await refused.answer()
            assert (status, headers["connection"]) == (429, "close")
            assert b"too many" in body
            assert await refused.rest() == b""
            for _ in range(5):
                assert (await server.ask(from_("198.51.100.2")))[0] == 200
            assert set(server.protocol.clients) == {"198.51.100.1"}
            for client in held:
                client.writer.write(b"of it.")
                assert (await client.answer())[0] == 200
            assert not server.protocol.clients
            assert (await server.ask(from_("198.51.100.1")))[0] == 200

    run(test())


def test_a_proxys_idle_connections_count_for_nobody(run: Run) -> None:
    async def test() -> None:
        async with serving(limits=BEHIND) as server:
            clients = [await server.connect() for _ in range(10)]
            for number, client in enumerate(clients * 2):
                client.writer.write(from_(f"198.51.100.{number % 2}") if number < 15 else GET)
                assert (await client.answer())[0] == 200
            assert not server.protocol.clients
            for client in clients:
                client.cut()

    run(test())


def test_a_caller_who_leaves_holds_nothing_whatever_waits_behind_its_request(run: Run) -> None:
    async def test() -> None:
        async with serving(limits=BEHIND) as server:
            client = await server.connect()
            client.writer.write(from_("198.51.100.1", POST) + b"10\r\n\r\nhalf")
            await eventually(lambda: server.protocol.clients["198.51.100.1"] == 1)
            client.writer.write(b"of it." + from_("198.51.100.2", POST) + b"10\r\n\r\nhalf")
            assert (await client.answer())[0] == 200
            await eventually(lambda: set(server.protocol.clients) == {"198.51.100.2"})
            client.cut()
            await eventually(lambda: not server.protocol.clients)

    run(test())


def test_requests_of_a_proxy_that_says_nothing_are_its_own(run: Run) -> None:
    async def test() -> None:
        async with serving(limits=BEHIND) as server:
            clients = [await server.connect() for _ in range(3)]
            for client in clients:
                client.writer.write(POST + b"10\r\n\r\nhalf")
            await eventually(lambda: server.protocol.clients["127.0.0.1"] == 3)
            assert (await server.ask(GET))[0] == 429
            for client in clients:
                client.cut()

    run(test())


def test_what_a_stranger_says_of_its_address_is_not_believed(run: Run) -> None:
    async def test() -> None:
        async with serving(limits=replace(BEHIND, trusted_proxies=frozenset())) as server:
            clients = [await half_sent(server, f"198.51.100.{number}") for number in range(3)]
            await eventually(lambda: server.protocol.clients == {"127.0.0.1": 3})
            other = await server.connect()
            assert (await other.answer())[0] == 429
            for client in (*clients, other):
                client.cut()

    run(test())


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "caller"),
    [
        ("127.0.0.1", None, PROXY, "127.0.0.1"),
        ("127.0.0.1", b"198.51.100.1", PROXY, "198.51.100.1"),
        ("127.0.0.1", b"203.0.113.9, 198.51.100.1", PROXY, "198.51.100.1"),
        ("127.0.0.1", b"198.51.100.1 , 127.0.0.1", PROXY, "198.51.100.1"),
        ("127.0.0.1", b"198.51.100.1, ", PROXY, "127.0.0.1"),
        ("127.0.0.1", b"x" * 65, PROXY, "127.0.0.1"),
        ("192.0.2.1", b"198.51.100.1", PROXY, "192.0.2.1"),
        ("192.0.2.1", b"198.51.100.1", frozenset({"*"}), "198.51.100.1"),
    ],
)
def test_the_caller_is_the_last_that_is_no_proxy(
    peer: str, forwarded: bytes | None, trusted: frozenset[str], caller: str
) -> None:
    assert forwarded_caller(peer, forwarded, trusted) == caller
