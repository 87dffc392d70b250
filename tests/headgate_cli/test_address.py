import socket

import pytest

from headgate_cli.address import Address, Place, address_of, bound, claimed
from headgate_cli.errors import CommandFailed, WrongUse


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("[::1]:0", Address("::1", 0)),
        ("localhost:65535", Address("localhost", 65535)),
    ],
)
def test_an_address_is_read_and_written_the_same(text: str, address: Address) -> None:
    assert Address.parse(text, "--http") == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8080",
        ":8080",
        "127.0.0.1:",
        "127.0.0.1:x",
        "127.0.0.1:-1",
        "h:65536",
        "h:²",
        "http://h:1",
        "https://h:1",
        "h:1/",
    ],
)
def test_what_is_no_address_is_refused_by_name(text: str) -> None:
    with pytest.raises(WrongUse, match="--http must be HOST:PORT"):
        Address.parse(text, "--http")


@pytest.mark.parametrize(
    "text", ["http://h:1", "grpc://h:1", "https://h:1/", "https://h:1/v1", "https://http://h:1", "h"]
)
def test_what_is_no_place_of_a_core_is_refused_in_words_that_say_what_is_one(text: str) -> None:
    with pytest.raises(WrongUse) as refused:
        Place.parse(text, "--grpc")
    expected = "--grpc must be HOST:PORT, such as 127.0.0.1:50051, or https://HOST:PORT where it speaks TLS"
    assert str(refused.value) == f"{expected}, and is {text!r}"


def test_every_interface_is_reached_on_this_machine() -> None:
    assert str(Address("0.0.0.0", 1).reachable()) == "127.0.0.1:1"
    assert str(Address("::", 1).reachable()) == "[::1]:1"
    assert str(Address("10.0.0.1", 1).reachable()) == "10.0.0.1:1"


def test_a_usual_port_that_is_taken_moves_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with claimed(Address("127.0.0.1", port), what="HTTP", may_move=True) as claim:
            assert port < address_of(claim).port < port + 20


def test_a_chosen_port_that_is_taken_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(CommandFailed, match=f"{address} is in use"):
            claimed(address, what="HTTP", may_move=False)


def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(CommandFailed, match=r"cannot listen on 192\.0\.2\.1:0 for HTTP"):
        claimed(Address("192.0.2.1", 0), what="HTTP", may_move=True)


def test_what_is_claimed_does_not_listen_yet() -> None:
    with bound(Address("127.0.0.1", 0)) as claim, pytest.raises(ConnectionRefusedError):
        socket.create_connection(claim.getsockname(), timeout=5)
