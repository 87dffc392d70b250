"""Circuits and rests that the processes of many machines tell each other of, beside all calls: one task asks and tells.

A circuit that opened for what the target itself answered opens at the others too, but for those where a call went well
lately. There, and where it opened for what a process may have met alone, such as a connection that failed, more than
half of the processes must say so: the calls of one, or a network that is broken for few, shut nobody else's door. The
process that said so tries first; what comes of it holds for all.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

import structlog

from gateway_core.redis_store.circuits import Heard, Statement, Vote
from gateway_core.redis_store.link import Away
from gateway_core.redis_store.unending import unending
from gateway_core.routing.board import Board
from gateway_core.routing.state import REST_AT_MOST, TargetState

log = structlog.get_logger("headgate.routing")

EVERY_SECONDS = 0.5
GRACE_SECONDS = 2.0
"""So much later than the process that opened a circuit, or its word, another one tries."""
OPEN_AT_MOST = 25.0
"""Whatever the others say, seconds."""


class Store(Protocol):
    """Where processes tell each other; all methods raise Away, and none takes longer than seconds."""

    async def share(self, statements: Sequence[Statement]) -> Heard:
        """Says something, or nothing, and hears what all say."""

    async def leave(self) -> None:
        """Is no longer one of the processes."""

    async def close(self) -> None:
        """Disconnects."""


class Shared:
    """What was said and heard of one target."""

    __slots__ = ("adopted_ms", "rests_until", "said_ms", "said_until", "state")

    def __init__(self, state: TargetState) -> None:
        """Begins with nothing."""
        self.state = state
        self.said_until: float | None = None
        """Until when, as this process has said, the circuit that it opened is open. None: it has said nothing."""
        self.said_ms = 0
        """When it did, by the server's clock."""
        self.adopted_ms: int | None = None
        """When others said it whose word was taken. None: none was."""
        self.rests_until = 0.0
        """The rest that is known to all."""

    def statements(self, now: float) -> list[Statement]:
        """What is new here, and the others do not know."""
        state, circuit, said = self.state, self.state.circuit, []
        if circuit.state == "closed" and (self.said_until is not None or self.adopted_ms is not None):
            said.append(Statement("well", state.name))
        elif circuit.state == "open" and not circuit.is_adopted and circuit.probing_until != self.said_until:
            reason = "" if state.last_failure is None else state.last_failure.name.lower()
            seconds = max(0.0, circuit.probing_until - now)
            said.append(Statement("open" if circuit.is_targets_own else "own", state.name, seconds, reason))
        if state.rests_until > max(now, self.rests_until):
            said.append(Statement("rest", state.name, state.rests_until - now))
        return said

    def told(self, now_ms: int) -> None:
        """Hears that its statements have been taken."""
        circuit = self.state.circuit
        if circuit.state == "closed":
            self.said_until = self.adopted_ms = None
        elif circuit.state == "open" and not circuit.is_adopted:
            if circuit.probing_until != self.said_until:
                self.said_ms = now_ms
            self.said_until, self.adopted_ms = circuit.probing_until, None
        self.rests_until = max(self.rests_until, self.state.rests_until)


class SharedCircuits:
    """Owns the task that asks and tells. Belongs to the event loop of its board."""

    def __init__(self, board: Board, store: Store, process_id: str, every_seconds: float = EVERY_SECONDS) -> None:
        """Takes what is known here, where it is shared, and how often."""
        self._board = board
        self._store = store
        self._process_id = process_id
        self._every_seconds = every_seconds
        self._shared = {state.name: Shared(state) for state in board.configured()}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins; a server that does not answer is no error: each process is by itself until it does."""
        self._task = asyncio.create_task(unending(self._go_on, "circuits"), name="sharing circuits")

    async def close(self) -> None:
        """Ends the task, and what this process counts for."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            await self._store.leave()
        await self._store.close()

    async def exchange(self) -> None:
        """Says what is new here, and learns what is new elsewhere; raises Away."""
        now = self._board.clock()
        speaking = [(each, said) for each in self._shared.values() if (said := each.statements(now))]
        marks = [(each, each.state.circuit.state, each.state.circuit.probing_until) for each, _ in speaking]
        heard = await self._store.share([statement for _, said in speaking for statement in said])
        for each, state, until in marks:
            # What has changed while the server was asked is told the next time.
            if (each.state.circuit.state, each.state.circuit.probing_until) == (state, until):
                each.told(heard.now_ms)
        self._learn(heard, self._board.clock())

    async def _go_on(self) -> None:
        while True:
            with suppress(Away):
                await self.exchange()
            await asyncio.sleep(self._every_seconds)

    def _learn(self, heard: Heard, now: float) -> None:
        votes: defaultdict[str, list[Vote]] = defaultdict(list)
        own: set[str] = set()
        for vote in heard.votes:
            if vote.process != self._process_id:
                votes[vote.target].append(vote)
            elif vote.what != "rest":
                own.add(vote.target)
        for name, shared in self._shared.items():
            well_ms = heard.well.get(name, 0)
            self._close(shared, well_ms)
            if shared.said_until is not None and name not in own and shared.said_until > now:
                shared.said_until = None  # the server has forgotten it: it is said again
            self._open(shared, [vote for vote in votes.get(name, ()) if vote.since_ms >= well_ms], heard, now)

    def _close(self, shared: Shared, well_ms: int) -> None:
        circuit = shared.state.circuit
        if circuit.state == "closed":
            return
        since = shared.adopted_ms if circuit.is_adopted else shared.said_ms if circuit.is_targets_own else None
        is_known = circuit.is_adopted or shared.said_until is not None
        if since is not None and is_known and well_ms >= since:
            circuit.close()
            shared.said_until = shared.adopted_ms = None
            log.info("circuit_closed_elsewhere", provider=shared.state.provider, model=shared.state.model)

    def _open(self, shared: Shared, votes: Sequence[Vote], heard: Heard, now: float) -> None:
        valid = [vote for vote in votes if vote.until_ms > heard.now_ms]
        for vote in valid:
            if vote.what == "rest":
                seconds = min(REST_AT_MOST, (vote.until_ms - heard.now_ms) / 1000)
                shared.state.rest(seconds, now)
                shared.rests_until = max(shared.rests_until, shared.state.rests_until)
        circuit = shared.state.circuit
        believed = [vote for vote in valid if vote.what in ("open", "own")]
        if 2 * len(believed) <= heard.processes:
            believed = [] if circuit.was_well(now) else [vote for vote in believed if vote.what == "open"]
        if not believed:
            return
        latest = max(believed, key=lambda vote: vote.until_ms)
        if circuit.state != "closed" and (not circuit.is_adopted or shared.adopted_ms == latest.since_ms):
            return
        is_new = circuit.state == "closed"
        seconds = min(OPEN_AT_MOST, (latest.until_ms - heard.now_ms) / 1000) + GRACE_SECONDS
        circuit.adopt(now, now + seconds)
        if circuit.is_adopted:
            shared.adopted_ms = latest.since_ms
        if is_new:
            log.warning(
                "circuit_adopted", provider=shared.state.provider, model=shared.state.model, reason=latest.reason,
                processes=len(believed),
            )  # fmt: skip
