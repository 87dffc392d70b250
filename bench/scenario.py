"""What is asked of the servers, how often, and by how many callers at once."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from bench.mock import APART_MODEL, MODEL, ONE_WRITE_MODEL

Wire = Literal["http", "chat", "floor"]


@dataclass(frozen=True)
class Options:
    """How much is measured."""

    rounds: int = 3
    seconds: float = 0.4
    """Of each phase that counts."""
    requests: int = 200_000
    """Most requests of each phase that counts."""
    warmup_seconds: float = 0.15
    connections: tuple[int, ...] = (1, 16, 64, 256)
    """Callers at once, each on a connection of its own over HTTP/1.1."""
    rate: float = 200
    """Requests per second where latency is measured."""
    rate_seconds: float = 2.0
    """Of each phase at the fixed rate."""
    open_streams: int = 2000
    """Idle streams whose memory is measured; 0: none."""

    @property
    def usual_connections(self) -> int:
        """The number of callers at which every server is measured: 16, or else the first."""
        return 16 if 16 in self.connections else self.connections[0]


QUICK = Options(
    rounds=1,
    seconds=0.15,
    requests=100,
    warmup_seconds=0.05,
    connections=(1, 16),
    rate_seconds=0.15,
    open_streams=40,
)
"""Enough to see that everything answers; its numbers say nothing."""


@dataclass(frozen=True)
class Scenario:
    """One kind of request."""

    name: str
    wires: tuple[Wire, ...]
    stream: bool = False
    model: str = MODEL
    """The mock's name of it, which says how the events of a stream are written."""
    fixed_rate: bool = False
    """Whether requests come at a fixed rate, for their latency, and not as fast as they are answered."""
    usual_only: bool = False
    """Whether it is asked by the usual number of callers only."""


UNARY = Scenario("REST unary", ("http",))
BURST = Scenario("REST stream, burst", ("http",), stream=True)
ONE_WRITE = Scenario("REST stream, one write", ("http",), stream=True, model=ONE_WRITE_MODEL)
APART = Scenario("REST stream, apart", ("http",), stream=True, model=APART_MODEL)
GRPC_UNARY = Scenario("gRPC unary", ("chat", "floor"))
GRPC_BURST = Scenario("gRPC stream, burst", ("chat", "floor"), stream=True)
GRPC_ONE_WRITE = Scenario(
    "gRPC stream, one write", ("chat", "floor"), stream=True, model=ONE_WRITE_MODEL, usual_only=True
)
UNARY_AT_RATE = Scenario("REST unary, fixed rate", ("http",), fixed_rate=True, usual_only=True)
GRPC_UNARY_AT_RATE = Scenario("gRPC unary, fixed rate", ("chat", "floor"), fixed_rate=True, usual_only=True)

SCENARIOS = (
    *(UNARY, BURST, ONE_WRITE, APART),
    *(GRPC_UNARY, GRPC_BURST, GRPC_ONE_WRITE),
    *(UNARY_AT_RATE, GRPC_UNARY_AT_RATE),
)

# Envoy does the same over REST, whatever the wire of the row is.
ENVOY_DOES = {
    **{scenario.name: scenario.name for scenario in SCENARIOS if "http" in scenario.wires},
    GRPC_UNARY.name: UNARY.name,
    GRPC_BURST.name: BURST.name,
    GRPC_ONE_WRITE.name: ONE_WRITE.name,
    GRPC_UNARY_AT_RATE.name: UNARY_AT_RATE.name,
}
"""The scenario of Envoy that another is compared to, by name."""

UNARY_OF = {
    **{stream.name: UNARY.name for stream in (BURST, ONE_WRITE, APART)},
    **{stream.name: GRPC_UNARY.name for stream in (GRPC_BURST, GRPC_ONE_WRITE)},
}
"""The scenario without a stream whose cost is taken off to tell that of an event, by name."""


@dataclass(frozen=True, order=True)
class Measure:
    """One cell of a run: a scenario, a server, and the number of callers at once (at a fixed rate: the usual)."""

    scenario: str
    server: str
    connections: int

    def of(self, scenario: str, server: str | None = None) -> "Measure":
        """Another scenario or server at as many callers."""
        return Measure(scenario, server or self.server, self.connections)


def counts(scenario: Scenario, everywhere: bool, options: Options) -> tuple[int, ...]:
    """The numbers of callers at which a server is measured in a scenario."""
    return options.connections if everywhere and not scenario.usual_only else (options.usual_connections,)


def asked_for(scenarios: Iterable[Scenario], options: Options) -> Iterator[tuple[Scenario, int]]:
    """The scenarios of a run, each with each of its numbers of callers."""
    for scenario in scenarios:
        for connections in counts(scenario, True, options):
            yield scenario, connections
