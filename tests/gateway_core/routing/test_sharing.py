"""Circuits of processes on a real Redis and a real Valkey: what one has found out, the others know, and no more."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from gateway_core.config_file import parse
from gateway_core.errors import GatewayError, ProviderRefused, ProviderUnauthorized, ProviderUnreachable
from gateway_core.redis_store.circuits import LIMIT, CircuitStore, Heard, Keys, Statement
from gateway_core.redis_store.link import Away
from gateway_core.routing.board import Board
from gateway_core.routing.sharing import GRACE_SECONDS, SharedCircuits
from gateway_core.routing.state import TargetState
from tests.support.redis import Kind, RunningRedis, running
from tests.support.upstream import reached

ROWS = """
providers: {lab: {kind: echo}, spare: {kind: echo}}
models:
  small: {targets: [{provider: lab, model: tiny}, {provider: spare, model: tiny}]}
  alone: {targets: [{provider: lab, model: other}]}
"""
OPEN_SECONDS = 10
WINDOW_SECONDS = 30
DEPLOYMENT = "d"
VOTES = Keys.of(DEPLOYMENT).votes
BUSY = ProviderRefused("busy", provider="lab", upstream_status="503")
LIMITED = ProviderRefused("slow down", provider="lab", upstream_status="429")
UNREACHABLE = ProviderUnreachable("no connection", provider="lab")
UNPAID = ProviderRefused("money", provider="lab", upstream_status="402")
REFUSED_KEY = ProviderUnauthorized("key", provider="lab", upstream_status="401")


class Replica:
    """A process, as far as circuits are concerned, whose clock the test sets."""

    def __init__(self, url: str, name: str, deployment: str = DEPLOYMENT) -> None:
        self.now = 100.0
        self.board = Board(parse(ROWS, "headgate.yaml", {}), clock=lambda: self.now)

        async def whose() -> str:
            return deployment

        self.store = CircuitStore(SecretStr(url), name, whose)
        self.shared = SharedCircuits(self.board, self.store, name)

    @property
    def lab(self) -> TargetState:
        return next(state for state in self.board.configured() if state.name == "lab/tiny")

    def fail(self, error: GatewayError, times: int = 5) -> None:
        for _ in range(times):
            self.lab.begin(self.now)
            self.lab.ended(error)

    def succeed(self) -> None:
        self.lab.begin(self.now)
        self.lab.opened(self.now, 0.1, stream=True)
        self.lab.ended(None)


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Iterator[RunningRedis]:
    kind: Kind = request.param
    with running(kind) as found:
        yield found


@pytest.fixture
async def replica(server: RunningRedis) -> AsyncIterator[Callable[[str], Replica]]:
    async with AsyncExitStack() as stack:

        def made(name: str) -> Replica:
            one = Replica(server.url, name)
            stack.push_async_callback(one.shared.close)
            return one

        yield made


async def exchanged(*replicas: Replica) -> None:
    """Twice: the first learns what the last has said."""
    for each in (*replicas, *replicas):
        await each.shared.exchange()


@pytest.mark.parametrize("error", [BUSY, LIMITED])
async def test_a_circuit_that_opens_for_what_the_target_answered_opens_everywhere(
    replica: Callable[[str], Replica], error: GatewayError
) -> None:
    one, other = replica("a"), replica("b")
    await exchanged(one, other)
    one.fail(error)
    with capture_logs() as logs:
        await exchanged(one, other)
    assert (one.lab.circuit.state, other.lab.circuit.state) == ("open", "open")
    assert [(each["event"], each["processes"]) for each in logs] == [("circuit_adopted", 1)]
    assert not other.lab.is_ready(other.now)
    # The other target of the model is well: it is served.
    assert other.board.is_served("small")


async def test_who_opened_it_tries_first_and_its_success_closes_it_everywhere(
    replica: Callable[[str], Replica],
) -> None:
    one, other = replica("a"), replica("b")
    one.fail(BUSY)
    await exchanged(one, other)
    one.now += OPEN_SECONDS
    other.now += OPEN_SECONDS
    assert one.lab.is_ready(one.now)
    assert not other.lab.is_ready(other.now)
    one.succeed()
    await exchanged(one, other)
    assert (one.lab.circuit.state, other.lab.circuit.state) == ("closed", "closed")
    await exchanged(one, other)
    assert (one.lab.circuit.state, other.lab.circuit.state) == ("closed", "closed")


async def test_where_who_opened_it_has_no_calls_another_tries_and_closes_it_everywhere(
    replica: Callable[[str], Replica],
) -> None:
    one, other, third = replica("a"), replica("b"), replica("c")
    one.fail(BUSY)
    await exchanged(one, other, third)
    other.now += OPEN_SECONDS + GRACE_SECONDS
    assert other.lab.is_ready(other.now)
    other.succeed()
    await exchanged(one, other, third)
    assert [each.lab.circuit.state for each in (one, other, third)] == ["closed"] * 3


async def test_a_try_that_fails_keeps_it_open_everywhere(replica: Callable[[str], Replica]) -> None:
    one, other = replica("a"), replica("b")
    one.fail(BUSY)
    await exchanged(one, other)
    until = other.lab.circuit.probing_until
    one.now += OPEN_SECONDS
    other.now += OPEN_SECONDS
    one.fail(BUSY, 1)
    await exchanged(one, other)
    assert one.lab.circuit.state == other.lab.circuit.state == "open"
    assert other.lab.circuit.probing_until > until + OPEN_SECONDS / 2


@pytest.mark.parametrize("error", [UNREACHABLE, REFUSED_KEY, UNPAID])
async def test_what_one_process_may_have_met_alone_shuts_nobody_elses_door(
    replica: Callable[[str], Replica], error: GatewayError
) -> None:
    processes = [replica(name) for name in "abc"]
    await exchanged(*processes)
    processes[0].fail(error)
    await exchanged(*processes)
    assert [each.lab.circuit.state for each in processes] == ["open", "closed", "closed"]
    # Two of three are more than half.
    processes[1].fail(error)
    await exchanged(*processes)
    assert [each.lab.circuit.state for each in processes] == ["open"] * 3


async def test_a_lone_word_shuts_no_door_behind_which_calls_go_well(replica: Callable[[str], Replica]) -> None:
    processes = [replica(name) for name in "abc"]
    for each in processes[1:]:
        each.succeed()
    await exchanged(*processes)
    processes[0].fail(BUSY)
    await exchanged(*processes)
    assert [each.lab.circuit.state for each in processes] == ["open", "closed", "closed"]
    # Where more than half say so, one of them for what it may have met alone, it is believed all the same.
    processes[1].fail(UNREACHABLE)
    await exchanged(*processes)
    assert [each.lab.circuit.state for each in processes] == ["open"] * 3


async def test_a_lone_word_is_taken_again_once_nothing_has_gone_well_for_a_window(
    replica: Callable[[str], Replica],
) -> None:
    one, other = replica("a"), replica("b")
    other.succeed()
    one.fail(BUSY)
    await exchanged(one, other)
    assert [each.lab.circuit.state for each in (one, other)] == ["open", "closed"]
    other.now += WINDOW_SECONDS
    await exchanged(one, other)
    assert [each.lab.circuit.state for each in (one, other)] == ["open"] * 2


async def test_what_opens_in_one_deployment_stays_closed_in_another_on_the_same_server(
    server: RunningRedis, replica: Callable[[str], Replica]
) -> None:
    staging, production = replica("a"), Replica(server.url, "b", "production")
    staging.fail(BUSY)
    staging.lab.rest(7, staging.now)
    await exchanged(staging, production)
    assert (production.lab.circuit.state, production.lab.rests_until) == ("closed", 0.0)
    await production.shared.close()


async def test_what_nobody_foresaw_is_logged_and_ends_no_sharing(
    replica: Callable[[str], Replica], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = replica("a")
    monkeypatch.setattr("gateway_core.redis_store.unending.PAUSE_SECONDS", 0.01)
    share, calls = one.store.share, 0

    async def failing(statements: Sequence[Statement]) -> Heard:
        nonlocal calls
        calls += 1
        if calls <= 3:
            raise RuntimeError("read() called while another coroutine is already waiting")
        return await share(statements)

    monkeypatch.setattr(one.store, "share", failing)
    with capture_logs() as logs:
        one.shared.start()
        await reached(lambda: calls > 4)
    assert [(each["event"], each["of"]) for each in logs] == [("sharing_failed", "circuits")]


async def test_a_circuit_that_is_a_processs_own_is_not_closed_by_the_luck_of_others(
    replica: Callable[[str], Replica],
) -> None:
    one, other = replica("a"), replica("b")
    one.fail(UNREACHABLE)
    other.fail(BUSY)
    await exchanged(one, other)
    other.now += OPEN_SECONDS
    other.succeed()
    await exchanged(other, one)
    assert (one.lab.circuit.state, other.lab.circuit.state) == ("open", "closed")


async def test_a_rest_that_the_target_asked_for_is_kept_by_all_and_not_prolonged(
    replica: Callable[[str], Replica],
) -> None:
    one, other = replica("a"), replica("b")
    one.lab.rest(7, one.now)
    await exchanged(one, other)
    assert 106 < other.lab.rests_until <= 107
    await exchanged(one, other)
    assert 106 < other.lab.rests_until <= 107
    other.now += 7
    assert other.lab.is_ready(other.now)


async def test_without_the_server_each_is_by_itself_and_what_it_has_forgotten_is_said_again(
    replica: Callable[[str], Replica], server: RunningRedis
) -> None:
    one, other = replica("a"), replica("b")
    one.fail(BUSY)
    await exchanged(one, other)
    server.kill()
    with capture_logs() as logs:
        for _ in range(5):
            for each in (one, other):
                with pytest.raises(Away):
                    await each.shared.exchange()
    assert [each["event"] for each in logs] == ["redis_away"] * 2
    assert not one.store.link.is_up
    assert other.lab.circuit.state == "open"
    server.start()
    third = replica("c")
    await exchanged(one, other, third)
    await exchanged(one, third)
    assert third.lab.circuit.state == "open"
    assert one.store.link.is_up
    # And a try that goes well closes it for all, as ever.
    one.now += OPEN_SECONDS
    one.succeed()
    await exchanged(one, other, third)
    assert [each.lab.circuit.state for each in (one, other, third)] == ["closed"] * 3


async def test_a_server_that_is_not_there_at_the_start_keeps_nobody_from_serving(
    replica: Callable[[str], Replica], server: RunningRedis
) -> None:
    server.kill()
    one = replica("a")
    one.shared.start()
    one.fail(BUSY)
    assert one.lab.circuit.state == "open"
    server.start()
    other = replica("b")
    async with asyncio.timeout(20):
        while other.lab.circuit.state != "open":
            await other.shared.exchange()


async def test_what_is_wrong_in_the_server_and_targets_of_others_count_nothing(
    replica: Callable[[str], Replica], server: RunningRedis
) -> None:
    one = replica("a")
    with server.client() as client:
        client.hset(VOTES, "nonsense", "1")
        client.hset(VOTES, "circuit|x|lab/tiny", "99999999999999|99999999999999|unknown|")
        client.hset(VOTES, "circuit|x|elsewhere/model", "1|99999999999999|open|")
        client.hset(VOTES, "rest|x|lab/other", "1|99999999999999|rest|")
    await exchanged(one)
    assert one.lab.circuit.state == "closed"
    assert all(state.rests_until <= one.now + 25 for state in one.board.configured())


async def test_what_is_kept_expires_and_is_bounded(replica: Callable[[str], Replica], server: RunningRedis) -> None:
    one = replica("a")
    one.fail(BUSY)
    await exchanged(one)
    with server.client() as client:
        assert all(0 < client.ttl(key) <= 120 for key in client.keys("*"))
        client.hset(VOTES, mapping={f"circuit|x|{n}": "1|99999999999999|open|" for n in range(LIMIT)})
        other = replica("b")
        other.fail(BUSY)
        await exchanged(other)
        assert client.hlen(VOTES) == LIMIT + 1
