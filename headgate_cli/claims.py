"""The addresses that `headgate serve` takes for itself, before it listens at them."""

import socket
from dataclasses import dataclass
from typing import Any

from gateway_core.config import Config
from headgate_cli.address import Address, address_of, claimed
from headgate_cli.assignment import Assignment
from headgate_cli.errors import CommandFailed
from headgate_cli.serve_options import ServeOptions


@dataclass(frozen=True, slots=True)
class Claims:
    """A socket for HTTP, an address for gRPC, and what is to be told of both."""

    http: socket.socket | None
    grpc: Address | None
    notes: tuple[str, ...]

    @classmethod
    def made(cls, options: ServeOptions, config: Config) -> "Claims":
        """Takes the addresses; those that nobody chose move on where they are taken. Raises CommandFailed."""
        chosen = config.listen.model_fields_set if "listen" in config.model_fields_set else set()
        # A core alone shows its health and its metrics over HTTP where it is told to: the usual port is the bridge's.
        http_text = options.http or (config.listen.http if options.part != "core" else None)
        grpc_text = (options.grpc or config.listen.grpc) if options.part != "bridge" else None
        if http_text is None and grpc_text is None:
            raise CommandFailed("there is nothing to serve: listen.http and listen.grpc are both off")
        http_wanted = None if http_text is None else Address.parse(http_text, "--http")
        grpc_wanted = None if grpc_text is None else Address.parse(grpc_text, "--grpc")
        grpc = http = None
        notes = []
        if grpc_wanted is not None:
            grpc = free_for_grpc(grpc_wanted, may_move=options.grpc is None and "grpc" not in chosen)
            notes += moved(grpc_wanted, grpc, "gRPC")
        if http_wanted is not None:
            http = claimed(http_wanted, what="HTTP", may_move=options.http is None and "http" not in chosen)
            notes += moved(http_wanted, address_of(http), "HTTP")
        return cls(http, grpc, tuple(notes))

    @classmethod
    def assigned(cls, assignment: Assignment) -> "Claims":
        """Those of a worker, which its supervisor has taken."""
        http = None if assignment.http is None else socket.socket(fileno=assignment.http)
        grpc = None if assignment.grpc is None else Address.parse(assignment.grpc, "gRPC")
        return cls(http, grpc, assignment.notes)

    def close(self) -> None:
        """Gives them back."""
        if self.http is not None:
            self.http.close()

    def addresses(self) -> list[Address]:
        """All of them."""
        http = [] if self.http is None else [address_of(self.http)]
        return http if self.grpc is None else [*http, self.grpc]

    def listen(self, config: Config) -> Any:
        """The configuration's `listen` with these addresses."""
        http = None if self.http is None else str(address_of(self.http))
        grpc = None if self.grpc is None else str(self.grpc)
        return config.listen.model_copy(update={"http": http, "grpc": grpc})


def free_for_grpc(wanted: Address, *, may_move: bool) -> Address:
    """An address that is free at this moment: gRPC makes its own socket. Raises CommandFailed."""
    if not wanted.port:
        return wanted
    with claimed(wanted, what="gRPC", may_move=may_move) as claim:
        return Address(wanted.host, address_of(claim).port)


def moved(wanted: Address, got: Address, what: str) -> list[str]:
    """Says that a usual port was taken."""
    if wanted.port in (0, got.port):
        return []
    return [f"port {wanted.port} is taken: {what} is on {got.port}"]
