"""Addresses to listen at and to show: "host:port" in, sockets and URLs out."""

import errno
import os
import socket
from typing import NamedTuple, Self

from headgate_cli.errors import CommandFailed, WrongUse

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

TLS_MARK = "https://"

NEXT_PORTS = 20
"""How many ports after the usual one are tried."""


class Address(NamedTuple):
    """A host and a port to listen at; port 0 is any free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str, what: str) -> Self:
        """The address in "host:port" or "[host]:port"; raises WrongUse, which names what it is for."""
        found = cls.found(text)
        if found is None:
            raise WrongUse(f'{what} must be HOST:PORT, such as 127.0.0.1:8080 or "[::]:8080", and is {text!r}')
        return found

    @classmethod
    def found(cls, text: str) -> Self | None:
        """The address in "host:port" or "[host]:port". None: it is none, as a URL is none."""
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536) or "/" in host:
            return None
        return cls(host, int(port))

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def reachable(self) -> "Address":
        """Where a client on this machine finds what listens here."""
        everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}
        return Address(everywhere.get(self.host, self.host), self.port)


class Place(NamedTuple):
    """Where a core is, and whether it speaks TLS there."""

    address: Address
    is_tls: bool

    @classmethod
    def parse(cls, text: str, what: str) -> Self:
        """The place in "host:port", or in "https://host:port" for TLS; raises WrongUse, which names what it is for."""
        address = Address.found(text.removeprefix(TLS_MARK))
        if address is None:
            such = f"such as 127.0.0.1:50051, or {TLS_MARK}HOST:PORT where it speaks TLS"
            raise WrongUse(f"{what} must be HOST:PORT, {such}, and is {text!r}")
        return cls(address, text.startswith(TLS_MARK))


def claimed(address: Address, *, what: str, may_move: bool) -> socket.socket:
    """A socket with an address or, where it may move, with one of the next ports; raises CommandFailed.

    It does not listen yet: who connects is refused. What it is for ("HTTP") is told where it cannot be had.
    """
    for port in range(address.port, address.port + (NEXT_PORTS if may_move and address.port else 1)):
        try:
            return bound(Address(address.host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise CommandFailed(f"cannot listen on {address} for {what}: {error.strerror or error}") from None
    raise in_use(address, what)


def bound(address: Address, *, is_shared: bool = False) -> socket.socket:
    """A socket with an address, set up as asyncio would; raises OSError."""
    family, _, _, _, place = socket.getaddrinfo(
        address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    claim = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would let two servers share a port
            claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            claim.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address.host != "::")
        claim.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # connections inherit it
        claim.bind(place)
    except OSError:
        claim.close()
        raise
    return claim


def made_shareable(claim: socket.socket) -> None:
    """Lets sockets of `sharing` have the address of a claim, and nobody else, whatever options he sets."""
    claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)


def sharing(address: Address) -> socket.socket:
    """A socket with an address that other sockets of this user have too (socket(7), SO_REUSEPORT); raises OSError.

    Linux spreads connections over those that listen.
    """
    return bound(address, is_shared=True)


def in_use(address: Address, what: str) -> CommandFailed:
    """Says that an address is taken, and what to do."""
    option = f"--{what.lower()} {Address(address.host, 0)}"
    return CommandFailed(
        f"{address} is in use: end what listens there, or choose another address for {what} "
        f"({option} takes a free port)"
    )


def address_of(claim: socket.socket) -> Address:
    """The address of a socket."""
    host, port = claim.getsockname()[:2]
    return Address(host, port)
