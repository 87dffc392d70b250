"""What must be true of the ledger after the storm, beside its own proof: a record for each call, and charges as documented."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from sqlalchemy import select

from gateway_core.storage.database import Database
from gateway_core.storage.ledger_proof import Proof, proof
from gateway_core.storage.location import location
from gateway_core.storage.tables.metering import ledger_attempts, ledger_requests
from tests.faults.storm_callers import Seen
from tests.faults.storm_vendor import VOICES, cost, said, tokens

REFUSED = frozenset({"insufficient_balance"})
"""Codes of calls that were not admitted: the ledger does not know them."""
JOINED_TOLERANCE = 8 * 10**6
"""Picodollars: the tokens of a text are rounded up twice where it is told in two parts."""

Row = Mapping[str, Any]


async def ledger(path: Path) -> tuple[Proof, list[Row], list[Row]]:
    """The ledger's proof, its requests, and its attempts."""
    async with Database(location(SecretStr(f"sqlite:///{path}"), Path())) as database, database.reading() as connection:
        proved = await proof(connection)
        requests: list[Row] = [dict(row) for row in (await connection.execute(select(ledger_requests))).mappings()]
        attempts: list[Row] = [dict(row) for row in (await connection.execute(select(ledger_attempts))).mappings()]
    return proved, requests, attempts


def wrongs(seen: Sequence[Seen], requests: Sequence[Row], attempts: Sequence[Row], prefilled: set[int]) -> list[str]:
    """A sentence for each thing that is wrong."""
    rows: dict[str, list[Row]] = {}
    for row in requests:
        rows.setdefault(row["request_id"], []).append(row)
    tried: dict[str, list[Row]] = {}
    for attempt in attempts:
        tried.setdefault(attempt["ledger_id"], []).append(attempt)
    found: list[str] = []
    for call in seen:
        own = rows.pop(call.request_id, [])
        if len(own) > 1:
            found.append(f"{len(own)} records: {call}")
        elif not own:
            if call.outcome in ("whole", "wrong") or (call.outcome == "failed" and not may_be_unknown(call)):
                found.append(f"no record: {call}")
        else:
            said_wrong = [
                *of_call(call, own[0], call.seed in prefilled),
                *of_attempts(own[0], tried.get(own[0]["id"], [])),
            ]
            found += [f"{wrong}: {call} {own[0]}" for wrong in said_wrong]
    found += [f"a record of a call that nobody made: {row}" for left in rows.values() for row in left]
    return found


def may_be_unknown(call: Seen) -> bool:
    """Whether a failed call may have ended before it was admitted: for want of money, or of time."""
    return call.code in REFUSED or call.key == "poor" or call.code == "deadline_exceeded"


def of_call(call: Seen, row: Row, was_joined: bool) -> list[str]:
    """What is wrong with the record of a call."""
    found = []
    status, charged = row["status"], row["charged_pico_usd"]
    if status == "ok" and row["completion_tokens"] is not None:
        right = {cost(call.seed, voice) for voice in VOICES}
        slack = JOINED_TOLERANCE if was_joined else 0
        if min(abs(charged - each) for each in right) > slack:
            found.append(f"charged {charged}, not {sorted(right)}")
    elif charged != (documented := of_broken(row)):
        found.append(f"charged {charged}, not {documented}")
    if call.outcome == "whole":
        if status != "ok":
            found.append("it was whole")
        if call.cost and round(Decimal(call.cost) * 10**12) != charged:
            found.append(f"its caller was told that it cost {call.cost}")
    elif (
        call.outcome == "failed"
        and call.code not in ("deadline_exceeded", "cancelled")
        and status in ("ok", "cancelled")
    ):
        found.append("it failed")
    whole = max(tokens(said(call.seed, voice)) for voice in VOICES)
    if not tokens("".join(call.text)) <= row["delivered_tokens"] + 1 or row["delivered_tokens"] > 2 * whole + 8:
        found.append(f"delivered {row['delivered_tokens']} tokens")
    return found


def of_broken(row: Row) -> int:
    """What an answer that is not whole is charged: what was delivered, and what the provider told."""
    if row["prompt_tokens"] is None and row["completion_tokens"] is None:
        delivered = row["delivered_tokens"]
        return (row["estimated_prompt_tokens"] + 2 * delivered) * 10**6 if delivered else 0
    return ((row["prompt_tokens"] or 0) + 2 * (row["completion_tokens"] or 0)) * 10**6


def of_attempts(row: Row, attempts: Sequence[Row]) -> list[str]:
    """What is wrong with the attempts of a call."""
    found = []
    if row["attempt_count"] != len(attempts):
        found.append(f"{len(attempts)} attempts")
    ordered = sorted(attempts, key=lambda each: int(each["number"]))
    if [each["number"] for each in ordered] != list(range(1, len(attempts) + 1)):
        found.append("its attempts have wrong numbers")
    if any(each["cost_pico_usd"] for each in ordered[:-1]):
        found.append("an attempt that failed costs something")
    if row["status"] == "ok" and ordered[-1]["status"] != "ok":
        found.append(f"its last attempt is {ordered[-1]['status']}")
    return found
