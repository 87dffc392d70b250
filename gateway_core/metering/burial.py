"""Closes what a process left open that has died: all of it at once, or, where that fails, as much as can be closed."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import structlog

from gateway_core.metering.price import multiplier_of, price_of_texts
from gateway_core.metering.record import COST_AT_MOST, NO_TEXTS
from gateway_core.metering.usage import charged_tokens
from gateway_core.storage import journal
from gateway_core.storage import ledger as rows
from gateway_core.storage.database import Database
from gateway_core.storage.errors import Conflict, StorageUnavailable
from gateway_core.storage.identifier import now_us
from gateway_core.storage.journal import OPENED, PRICES, TOKENS
from gateway_core.tokens import UNTOLD, Tokens

log = structlog.get_logger("headgate.ledger")

TRIES = 3
"""A transaction of the dead process may be committed after its death, and another process may bury it as well."""
KNOWN: Mapping[str, rows.Closing] = {}


async def bury(database: Database, process_id: str, known: Mapping[str, rows.Closing] = KNOWN) -> bool:
    """Closes what a process left open; whether nothing is left of it. Raises StorageUnavailable.

    `known` has, by the ids of calls, ends that could not be written when they came. What cannot be closed, or read,
    stays in the journal, and the log tells of it.
    """
    burial = Burial(database, process_id, known)
    for _ in range(TRIES):
        try:
            found = await database.write(
                lambda statements: rows.close_left_open(statements, process_id, burial.closing)
            )
        except StorageUnavailable:
            raise
        except Conflict:
            continue
        except Exception as error:  # one of them is at fault, of which more will be told
            log.warning("calls_not_closed_together", process_id=process_id, error=type(error).__name__)
            break
        burial.tell(found, len(found.calls))
        return not found.unreadable
    return await burial.by_halves()


class Unclosed(NamedTuple):
    """A call that a dead process has left."""

    id: str
    closing: Callable[[], rows.Closing]
    """How it ends; raises whatever it likes where what was written of the call makes no sense."""


async def not_closed(database: Database, process_id: str, calls: Sequence[Unclosed]) -> list[Unclosed]:
    """Closes calls that are not in the ledger, together or by halves; those that could not be.

    Each is told in the log. Raises StorageUnavailable.
    """
    if not calls:
        return []
    for attempt in range(1, TRIES + 1):
        try:
            batch = rows.Batch(closed=[call.closing() for call in calls])
            await database.write(partial(rows.write, batch=batch, careful=True))
        except StorageUnavailable:
            raise
        except Exception as error:  # one of them is at fault: it is told when it is the only one
            if isinstance(error, Conflict) and attempt < TRIES:
                continue
            if len(calls) == 1:
                log.exception("call_not_closed", process_id=process_id, call_id=calls[0].id)
                return list(calls)
            break
        return []
    middle = len(calls) // 2
    first = await not_closed(database, process_id, calls[:middle])
    return first + await not_closed(database, process_id, calls[middle:])


class Burial:
    """Of one process."""

    def __init__(self, database: Database, process_id: str, known: Mapping[str, rows.Closing]) -> None:
        """As `bury`."""
        self._database = database
        self._process_id = process_id
        self._known = known

    def closing(self, call: Mapping[str, Any]) -> rows.Closing:
        """How a call ends."""
        return self._known.get(call["id"]) or interrupted(call)

    async def by_halves(self) -> bool:
        """Closes what can be closed; whether that is all. Raises StorageUnavailable."""
        found = await self._database.write(lambda statements: journal.left(statements, self._process_id))
        calls = [Unclosed(call["id"], partial(self.closing, call)) for call in found.calls]
        kept = {call.id for call in await not_closed(self._database, self._process_id, calls)}
        emptied = [number for number, ids in found.rows.items() if not ids & kept]
        await self._database.write(lambda statements: rows.end_process(statements, self._process_id, emptied))
        self.tell(found, len(found.calls) - len(kept))
        return not kept and not found.unreadable

    def tell(self, found: journal.Left, count: int) -> None:
        """Logs what became of it."""
        if count:
            log.warning("calls_interrupted", process_id=self._process_id, count=count)
        if found.unreadable:
            log.error("journal_not_readable", process_id=self._process_id, numbers=found.unreadable[:100])


def interrupted(values: Mapping[str, Any]) -> rows.Closing:
    """How a call ends whose process died: charged with what its last checkpoint says was delivered."""
    told = Tokens(*(values[name] for name in TOKENS))
    tokens = charged_tokens(
        told if told != UNTOLD else None,
        estimated_prompt=values["estimated_prompt_tokens"] or 0,
        delivered=values["delivered_tokens"],
    )
    texts = tuple(values[name] for name in PRICES)
    multiplier = multiplier_of(values["price_multiplier"])
    cost = min(price_of_texts(texts).cost(tokens, multiplier), COST_AT_MOST) if texts != NO_TEXTS else None
    units = values["reserve_units"]
    charged = 0 if units else cost or 0  # what the plan's reserve has covered stays so
    now = now_us()
    provider, model = values["provider"], values["response_model"]
    closed = (rows.INTERRUPTED, model, provider, None, values["attempt_count"], *told)
    delivered = (values["estimated_prompt_tokens"], values["delivered_tokens"])
    row = (
        *(values[name] for name in OPENED), *closed, *delivered, cost, charged, units, now, None, None,
    )  # fmt: skip
    attempts = []
    if provider:
        attempt = (values["id"], values["attempt_count"] or 1, provider, model or values["requested_model"])
        attempts = [(*attempt, rows.INTERRUPTED, None, None, *told, cost, values["started_us"], None, None)]
    return values["id"], values["account_id"], charged, row, attempts
