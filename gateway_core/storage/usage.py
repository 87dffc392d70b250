"""Reads the ledger: its records page by page, and sums over them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal, NamedTuple

from sqlalchemy import Row, Select, and_, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway_core.storage.journal import OPEN
from gateway_core.storage.money import PART, sum_parts, whole
from gateway_core.storage.open_calls import open_calls
from gateway_core.storage.tables.identity import accounts
from gateway_core.storage.tables.metering import ledger_attempts, ledger_requests

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
NO_FAILURES = ("ok", "cancelled", "interrupted")
Grouping = Literal["day", "hour", "model", "key", "gateway", "tag", "account"]

_requests = ledger_requests.c
_told = or_(_requests.prompt_tokens.is_not(None), _requests.completion_tokens.is_not(None))
GROUPS: dict[Grouping, Any] = {
    "day": _requests.started_us // DAY_US,
    "hour": _requests.started_us // HOUR_US,
    "model": func.coalesce(_requests.response_model, ""),
    "key": func.coalesce(_requests.key_id, ""),
    "gateway": func.coalesce(_requests.gateway_id, ""),
    "tag": func.coalesce(_requests.tag, ""),
    "account": _requests.account_id,
}


class Cursor(NamedTuple):
    """A record, by its place among the others."""

    started_us: int
    id: str


@dataclass(frozen=True, slots=True)
class Filter:
    """Which calls are meant. Empty and None: all, but of the accounts only those that are named."""

    account_ids: Collection[str]
    top_id: str | None = None
    """The account of which, and of all below it, these are the ids: they may be more than a statement takes."""
    key_id: str = ""
    gateway_id: str = ""
    model: str = ""
    tag: str = ""
    status: str = ""
    """As the ledger has it, or "failed"."""
    start_us: int | None = None
    end_us: int | None = None
    request_id: str = ""


class Sums(NamedTuple):
    """What calls used together. Money is in picodollars."""

    group: str | int
    request_count: int
    failed_count: int
    prompt_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cost: int
    charged: int


async def subtree(connection: AsyncConnection, account_id: str) -> list[str]:
    """An account and all below it, those that were deleted too."""
    return list(await connection.scalars(ids_below(account_id)))


def ids_below(account_id: str) -> Select[Any]:
    """The ids of an account and of all below it."""
    below = select(accounts.c.id).where(accounts.c.id == account_id).cte(recursive=True)
    below = below.union(select(accounts.c.id).join(below, accounts.c.parent_id == below.c.id))
    return select(below.c.id)


async def records(
    connection: AsyncConnection, which: Filter, after: Cursor | None, limit: int, *, newest_first: bool
) -> Sequence[Any]:
    """Records by their beginning, those behind a cursor; calls that are open are among them."""
    place = attrgetter("started_us", "id")
    running = [] if which.status not in {"", OPEN} else await open_calls(connection)
    running = [
        call
        for call in running
        if is_meant(call, which) and (after is None or (place(call) < after if newest_first else place(call) > after))
    ]
    closed = [] if which.status == OPEN else await closed_records(connection, which, after, limit, newest_first)
    return sorted([*closed, *running], key=place, reverse=newest_first)[:limit]


def is_meant(call: Any, which: Filter) -> bool:
    """Whether a call that is open is meant."""
    asked = {"key_id": which.key_id, "gateway_id": which.gateway_id, "tag": which.tag, "request_id": which.request_id}
    return (
        call.account_id in which.account_ids
        and all(not value or getattr(call, name) == value for name, value in asked.items())
        and (not which.model or which.model in {call.requested_model, call.response_model})
        and (which.start_us is None or call.started_us >= which.start_us)
        and (which.end_us is None or call.started_us < which.end_us)
    )


async def closed_records(
    connection: AsyncConnection, which: Filter, after: Cursor | None, limit: int, newest_first: bool
) -> Sequence[Row[Any]]:
    """Records of calls that have ended."""
    found = filtered(select(ledger_requests), which)
    place = (_requests.started_us, _requests.id)
    if after is not None:
        started_us, id_ = after
        if newest_first:
            behind = or_(place[0] < started_us, and_(place[0] == started_us, place[1] < id_))
        else:
            behind = or_(place[0] > started_us, and_(place[0] == started_us, place[1] > id_))
        found = found.where(behind)
    order = [column.desc() if newest_first else column.asc() for column in place]
    return list(await connection.execute(found.order_by(*order).limit(limit)))


async def attempts(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, list[Row[Any]]]:
    """The attempts of calls, by the calls' ids, in order."""
    found: dict[str, list[Row[Any]]] = {}
    if ids:
        columns = ledger_attempts.c
        rows = select(ledger_attempts).where(columns.ledger_id.in_(ids)).order_by(columns.ledger_id, columns.number)
        for row in await connection.execute(rows):
            found.setdefault(row.ledger_id, []).append(row)
    return found


async def summaries(
    connection: AsyncConnection, which: Filter, grouping: Grouping, offset: int, limit: int
) -> list[Sums]:
    """Sums by group: days and hours in their order, everything else by cost, the highest first."""
    group = GROUPS[grouping]
    high, low = (func.coalesce(part, 0) for part in sum_parts(_requests.cost_pico_usd))
    found = filtered(select(group, *aggregates()), which).group_by(group)
    order = [group] if grouping in {"day", "hour"} else [(high + low // PART).desc(), (low % PART).desc(), group]
    rows = await connection.execute(found.order_by(*order).offset(offset).limit(limit))
    return [sums(group, rest) for group, *rest in rows]


async def total(connection: AsyncConnection, which: Filter) -> Sums:
    """All together."""
    (row,) = (await connection.execute(filtered(select(*aggregates()), which))).all()
    return sums("", row)


def sums(group: str | int, values: Sequence[Any]) -> Sums:
    """Of a database's numbers, which may be decimals, and null where there are none."""
    *counts, cost_high, cost_low, charged_high, charged_low = values
    money = (whole(cost_high, cost_low), whole(charged_high, charged_low))
    return Sums._make((group, *(int(value or 0) for value in counts), *money))


def aggregates() -> list[Any]:
    """What is added up, in the order of Sums, money in two parts.

    Tokens are those that are charged: as told, and else as delivered.
    """
    delivered = _requests.delivered_tokens
    estimated = case((delivered > 0, func.coalesce(_requests.estimated_prompt_tokens, 0)), else_=0)
    return [
        func.count(),
        func.sum(case((_requests.status.not_in(NO_FAILURES), 1), else_=0)),
        func.sum(case((_told, func.coalesce(_requests.prompt_tokens, 0)), else_=estimated)),
        func.sum(_requests.cached_tokens),
        func.sum(_requests.cache_write_tokens),
        func.sum(case((_told, func.coalesce(_requests.completion_tokens, 0)), else_=delivered)),
        func.sum(_requests.reasoning_tokens),
        *sum_parts(_requests.cost_pico_usd),
        *sum_parts(_requests.charged_pico_usd),
    ]


def filtered(found: Select[Any], which: Filter) -> Select[Any]:
    """Of the calls those that are meant."""
    ids = which.account_ids if which.top_id is None else ids_below(which.top_id)
    found = found.where(_requests.account_id.in_(ids))
    for column, value in (
        (_requests.key_id, which.key_id),
        (_requests.gateway_id, which.gateway_id),
        (_requests.tag, which.tag),
        (_requests.request_id, which.request_id),
    ):
        if value:
            found = found.where(column == value)
    if which.model:
        found = found.where(or_(_requests.requested_model == which.model, _requests.response_model == which.model))
    if which.status == "failed":
        found = found.where(_requests.status.not_in(NO_FAILURES))
    elif which.status:
        found = found.where(_requests.status == which.status)
    if which.start_us is not None:
        found = found.where(_requests.started_us >= which.start_us)
    if which.end_us is not None:
        found = found.where(_requests.started_us < which.end_us)
    return found
