"""What the ledger says of calls, held against what their callers saw."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import select

from gateway_core.metering.ledger import CHECKPOINT_SECONDS
from gateway_core.storage.database import Database
from gateway_core.storage.ledger_proof import Proof, proof
from gateway_core.storage.location import location
from gateway_core.storage.tables.metering import ledger_requests
from tests.faults.ledger import PIECES
from tests.faults.split.callers import OK, Call, Seen

UNSURE_SECONDS = CHECKPOINT_SECONDS + 0.25
"""Before a kill: a checkpoint, and a transaction on a busy machine."""


@dataclass(frozen=True, slots=True)
class Proved:
    """What was found."""

    statuses: Counter[str]
    whole: int
    """Answers that callers saw whole; each has one record with its very cost."""
    unseen: int
    """Calls in the ledger as `ok` whose answer was lost between the replica and its caller."""
    unwritten: int
    """Calls that failed and left nothing: no replica had begun them."""
    charged: int
    """Picodollars."""
    limited: int
    """Calls of the limited account that were let in."""


async def settled(home: Path, url: str, within: float) -> Proof:
    """Waits until no call is open any more; raises AssertionError."""
    deadline = time.monotonic() + within
    async with Database(location(SecretStr(url), home)) as database:
        while True:
            async with database.reading() as connection:
                found = await proof(connection)
            if not found.open_count:
                return found
            assert time.monotonic() < deadline, f"{found.open_count} calls are open still"
            await asyncio.sleep(0.2)


async def proved(home: Path, url: str, seen: Seen) -> Proved:
    """Raises AssertionError where anything was lost, or counted twice, or costs what it should not."""
    async with Database(location(SecretStr(url), home)) as database, database.reading() as connection:
        found = await proof(connection)
        rows = [dict(row) for row in (await connection.execute(select(ledger_requests))).mappings()]
    assert found.faults == ()
    assert found.open_count == 0
    twice = [id_ for id_, count in Counter(row["request_id"] for row in rows).items() if count > 1]
    assert not twice, f"counted twice: {twice}"
    records = {row["request_id"]: row for row in rows}
    strangers = set(records) - {call.id for call in seen.calls}
    assert not strangers, f"in the ledger, and nobody asked: {strangers}"
    for call in seen.calls:
        prove(call, records.get(call.id))
    unseen = sum(call.word != OK and records.get(call.id, {}).get("status") == "ok" for call in seen.calls)
    return Proved(
        Counter(row["status"] for row in rows),
        sum(call.word == OK for call in seen.calls),
        unseen,
        sum(call.id not in records for call in seen.calls),
        found.charged,
        sum(call.account == "limited" and call.id in records for call in seen.calls),
    )


def prove(call: Call, record: dict[str, Any] | None) -> None:
    """What a caller was given is written down, at its price; raises AssertionError."""
    if record is None:
        assert not call.pieces, f"delivered, and without a record: {call}"
        return
    assert record["ended_us"] is not None, (call, record)
    charged, delivered = record["charged_pico_usd"], record["delivered_tokens"]
    if call.word == OK:
        assert record["status"] == "ok", (call, record)
    if record["status"] == "ok":
        assert charged == call.cost, (call, record)
        return
    # Nobody told the tokens of the prompt: they are estimated.
    most = max(call.cost, call.cost + ((record["estimated_prompt_tokens"] or 0) - call.number) * 10**6)
    assert delivered <= PIECES, (call, record)
    assert charged <= most, (call, record)
    # What a killed process delivered last was not written down any more.
    unsure = UNSURE_SECONDS * 1000 / max(1, call.milliseconds) if record["status"] == "interrupted" else 0
    assert call.pieces <= delivered + unsure, (call, record)
