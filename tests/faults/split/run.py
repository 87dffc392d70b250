"""The run: load that never stops, while each part of the stand is lost and comes back."""

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.faults.ledger import ROOT_KEY, vendor_answer
from tests.faults.split.callers import Call, Seen, calling
from tests.faults.split.proof import Proved, proved, settled
from tests.faults.split.stand import LIMIT, REPLICAS, Stand
from tests.support.upstream import Upstream

ONE, TWO = REPLICAS
KILLED = "replica one killed (SIGKILL)"
REDIS_AWAY = "Redis killed"
POSTGRES_AWAY, POSTGRES_BACK = "PostgreSQL ended at once (SIGQUIT)", "PostgreSQL back"
BURIED_SECONDS = 90
"""Within which everything of a dead process is closed: another one waits for a sign of it for 60 s."""
LEASE = LIMIT // 20
PROCESSES = 3
"""That there were: one was killed and started again."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long each state lasts, in seconds."""

    calm: float
    without: float
    """A replica, Redis, PostgreSQL."""
    after: float
    """It is back."""
    cut: float
    """The first replica's cable is pulled."""
    cut_again: float
    """The second's: longer than others wait for a sign of it. 0: it is not."""


SHORT = Times(calm=2, without=4, after=4, cut=8, cut_again=0)
LONG = Times(calm=5, without=12, after=12, cut=20, cut_again=75)


@dataclass(slots=True)
class Phase:
    """A state of the stand, and the calls that began in it."""

    name: str
    began: float
    ended: float = 0.0
    calls: list[Call] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """What came of it."""

    phases: list[Phase]
    ledger: Proved
    exits: tuple[int, ...]
    """Exit statuses of the replicas, which were asked to end."""


class Course:
    """Goes from state to state."""

    def __init__(self, stand: Stand, tell: Callable[[str], Any]) -> None:
        """Takes whom to tell."""
        self.stand = stand
        self.phases: list[Phase] = []
        self._tell = tell

    async def state(self, name: str, seconds: float, *steps: Callable[[], Awaitable[object]]) -> None:
        """A state, which begins with what brings it about, and lasts so long from then on."""
        if self.phases:
            self.phases[-1].ended = time.monotonic()
        self.phases.append(Phase(name, time.monotonic()))
        self._tell(name)
        for step in steps:
            await step()
        await asyncio.sleep(seconds)  # the load goes on meanwhile: it is not a state that is waited for

    async def go(self, times: Times) -> None:
        """Loses everything in turn."""
        await self.state("all is well", times.calm)
        await self.lose_a_replica(times)
        await self.cut_off(ONE, times.cut, times.after)
        await self.lose_redis(times)
        await self.lose_postgres(times)
        if times.cut_again:
            await self.cut_off(TWO, times.cut_again, times.after)
        await self.state("all is well again", times.calm)
        self.phases[-1].ended = time.monotonic()

    async def lose_a_replica(self, times: Times) -> None:
        """kill -9, and started again on the same disk."""
        stand, program = self.stand, self.stand.programs[ONE]
        await self.state(KILLED, times.without, lambda: program.send(signal.SIGKILL))
        back = (lambda: stand.start_replica(ONE)), (lambda: stand.replica_is_in(ONE))
        await self.state("replica one started again", times.after, *back)

    async def cut_off(self, replica: str, seconds: float, after: float) -> None:
        """The replica lives, and reaches nobody."""
        stand = self.stand
        await self.state(f"replica {replica} cut off", seconds, lambda: stand.network.cut(replica))
        back = (lambda: stand.network.mend(replica)), (lambda: stand.replica_is_in(replica))
        await self.state(f"replica {replica} connected again", after, *back)

    async def lose_redis(self, times: Times) -> None:
        """It forgets everything."""
        await self.state(REDIS_AWAY, times.without, lambda: self.stand.programs["redis"].send(signal.SIGKILL))
        await self.state("Redis back, empty", times.after, self.stand.start_redis)

    async def lose_postgres(self, times: Times) -> None:
        """Its processes end at once, and it recovers at its start."""
        end = self.stand.programs["postgres"].send
        await self.state(POSTGRES_AWAY, times.without, lambda: end(signal.SIGQUIT))
        await self.state(POSTGRES_BACK, times.after, self.stand.start_postgres)


async def run(times: Times, chance: random.Random, tell: Callable[[str], Any] = lambda _: None) -> Report:
    """The whole; raises AssertionError where anything was lost, counted twice or beyond its limit."""
    vendors: list[Upstream] = []

    async def vendor(host: str) -> str:
        vendors.append(Upstream(host=host))
        await vendors[-1].come()
        vendors[-1].script(vendor_answer)
        return vendors[-1].base_url

    try:
        async with Stand(vendor) as stand:
            seen = Seen()
            course = Course(stand, tell)
            keys = {"steady": await account(stand.url, "steady"), "limited": await account(stand.url, "limited")}
            async with calling(stand.url, stand.grpc_address, keys, seen, chance):
                await course.go(times)
            sort(seen, course.phases)
            ledger, exits = await after_all(stand, seen)
    finally:
        for one in vendors:
            await one.go()
    return Report(course.phases, ledger, exits)


def sort(seen: Seen, phases: list[Phase]) -> None:
    """Gives each state the calls that began in it."""
    for call in seen.calls:
        begun = [phase for phase in phases if phase.began <= call.began]
        (begun or phases)[-1 if begun else 0].calls.append(call)


async def after_all(stand: Stand, seen: Seen) -> tuple[Proved, tuple[int, ...]]:
    """Waits until every call is closed, ends the replicas, and proves the ledger."""
    home: Path = stand.data(ONE)
    await settled(home, stand.database_url, BURIED_SECONDS)
    exits = [await stand.programs[name].send(signal.SIGTERM) for name in REPLICAS]
    return await proved(home, stand.database_url, seen), tuple(exits)


async def account(url: str, name: str) -> str:
    """The secret key of a new account with credit; "limited" has the plan of its name."""
    operator = {"authorization": f"Bearer {ROOT_KEY}"}
    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False, headers=operator) as client:
        plan = {"plan": name} if name == "limited" else {}
        made = (await client.post("/api/v1/accounts", json={"name": name, **plan})).raise_for_status().json()["data"]
        credit = {"account_id": made["account"]["id"], "amount_usd": "1000", "reference": "1"}
        (await client.post("/api/v1/balance/credits", json=credit)).raise_for_status()
    secret: str = made["secret"]
    return secret
