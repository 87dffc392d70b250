"""Replicas, Envoy, PostgreSQL and Redis in network namespaces of their own, each lost in turn under load."""

import random
import shutil

import pytest

from tests.faults.split.callers import OK, UNTOLD, Call
from tests.faults.split.network import hindrance
from tests.faults.split.run import KILLED, LEASE, POSTGRES_AWAY, POSTGRES_BACK, PROCESSES, REDIS_AWAY, SHORT, Phase, run
from tests.faults.split.stand import LIMIT
from tests.faults.split.table import table
from tests.support import postgres, redis
from tests.support.envoy import needs_envoy

SETTLED_SECONDS = 2.0
"""Within which an Envoy leaves a replica alone that refuses connections."""
IN_FLIGHT = 12
"""Callers at once: what one part's end may cost at most."""


def lacking() -> str | None:
    reason = hindrance()
    if reason is None and next(postgres.installations(), None) is None:
        reason = "no PostgreSQL server can be had"
    if reason is None and not (redis.program("redis") or redis.program("valkey")):
        reason = "no Redis or Valkey server can be had"
    return reason


def lost(phase: Phase) -> list[Call]:
    return [call for call in phase.calls if call.word != OK and not is_limit(call)]


def is_limit(call: Call) -> bool:
    """Whether it is the limited account's, refused as it should be."""
    return call.account == "limited" and "rate_limited" in call.word


@needs_envoy
@pytest.mark.slow
async def test_whatever_is_lost_the_ledger_is_right_and_callers_are_told() -> None:
    reason = lacking()
    if reason is not None:
        pytest.skip(reason)
    report = await run(SHORT, random.Random(11))
    print(table(report))
    phases = {phase.name: phase for phase in report.phases}
    calls = [call for phase in report.phases for call in phase.calls]
    assert not [call for call in calls if call.word == UNTOLD]
    # What was in flight at a replica that dies or is cut off is lost, and its callers are told; nothing else is.
    killed = phases[KILLED]
    assert not [call for call in lost(killed) if call.began > killed.began + SETTLED_SECONDS]
    for phase in report.phases:
        assert len(lost(phase)) <= IN_FLIGHT, (phase.name, lost(phase))
    for name in (REDIS_AWAY, POSTGRES_AWAY, POSTGRES_BACK, "all is well again"):
        assert lost(phases[name]) == [], name
    assert report.ledger.whole > 500
    assert report.ledger.statuses["interrupted"] > 0, "nothing was in flight when the replica was killed"
    assert LIMIT - PROCESSES * LEASE <= report.ledger.limited <= LIMIT + PROCESSES * LEASE
    assert report.exits == (0, 0)


def test_it_is_said_why_there_are_no_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "nsenter" else f"/bin/{name}")
    assert hindrance() in ("there is no program 'nsenter' (iproute2, util-linux)", "network namespaces are Linux's")
