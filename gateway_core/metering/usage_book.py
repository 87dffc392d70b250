"""Answers what an account may know of what was used: its own calls and those of the accounts below it."""

import re
from collections.abc import AsyncGenerator, Sequence
from typing import Any, NamedTuple

from headgate.v1.usage_pb2 import (
    USAGE_GROUPING_ACCOUNT,
    USAGE_GROUPING_DAY,
    USAGE_GROUPING_GATEWAY,
    USAGE_GROUPING_HOUR,
    USAGE_GROUPING_KEY,
    USAGE_GROUPING_MODEL,
    USAGE_GROUPING_TAG,
    USAGE_STATUS_FAILED,
    USAGE_STATUS_UNSPECIFIED,
    UsageRecord,
    UsageSummary,
)

from gateway_core.call import Caller
from gateway_core.errors import InvalidRequest, NotFound
from gateway_core.metering.export import lines
from gateway_core.metering.statement import STATUSES, record_message, summary_message
from gateway_core.storage import usage as rows
from gateway_core.storage.database import Database
from gateway_core.storage.ledger import root_account_id
from gateway_core.timestamp import time_us

PAGE = 100
PAGE_AT_MOST = 1000
EXPORTED_AT_ONCE = 1000
CURSOR = re.compile(r"([0-9]{1,16})\.([0-9a-f-]{36})", re.ASCII)
OFFSET = re.compile(r"[0-9]{1,9}", re.ASCII)
GROUPINGS: dict[int, rows.Grouping] = {
    USAGE_GROUPING_DAY: "day",
    USAGE_GROUPING_HOUR: "hour",
    USAGE_GROUPING_MODEL: "model",
    USAGE_GROUPING_KEY: "key",
    USAGE_GROUPING_GATEWAY: "gateway",
    USAGE_GROUPING_TAG: "tag",
    USAGE_GROUPING_ACCOUNT: "account",
}
STATUS_WORDS = {status: word for word, status in STATUSES.items()} | {
    USAGE_STATUS_FAILED: "failed",
    USAGE_STATUS_UNSPECIFIED: "",
}


class Summaries(NamedTuple):
    """A page of summaries."""

    summaries: list[UsageSummary]
    total: UsageSummary
    next_page_token: str


class UsageBook:
    """What was used."""

    def __init__(self, database: Database) -> None:
        """Takes where the ledger is."""
        self._database = database

    async def records(self, caller: Caller, request: Any) -> tuple[list[UsageRecord], str]:
        """A page, the newest first, and the token of the next; raises InvalidRequest, NotFound."""
        size = page_size(request.page_size)
        after = cursor(request.page_token)
        async with self._database.reading(settled=True) as connection:
            which = await wanted(connection, caller, request)
            found = await rows.records(connection, which, after, size + 1, newest_first=True)
            page = found[:size]
            attempts = await rows.attempts(connection, [row.id for row in page])
        token = f"{page[-1].started_us}.{page[-1].id}" if len(found) > size else ""
        return [record_message(row, attempts.get(row.id, ())) for row in page], token

    async def summaries(self, caller: Caller, request: Any) -> Summaries:
        """A page of summaries, and all together; raises InvalidRequest, NotFound."""
        grouping = GROUPINGS.get(request.group_by)
        if grouping is None:
            raise InvalidRequest("group_by is required.", param="group_by")
        size = page_size(request.page_size)
        if request.page_token and not OFFSET.fullmatch(request.page_token):
            raise wrong_token()
        offset = int(request.page_token or 0)
        async with self._database.reading(settled=True) as connection:
            which = await wanted(connection, caller, request)
            found = await rows.summaries(connection, which, grouping, offset, size + 1)
            total = await rows.total(connection, which)
        page = [summary_message(sums, grouping) for sums in found[:size]]
        return Summaries(page, summary_message(total, None), str(offset + size) if len(found) > size else "")

    async def exported(self, caller: Caller, request: Any) -> AsyncGenerator[bytes, None]:
        """The pieces of a CSV document, the oldest record first; raises InvalidRequest, NotFound."""
        after: rows.Cursor | None = None
        is_first = True
        while True:
            # Not one transaction for the whole: a slow reader would keep it open.
            async with self._database.reading(settled=True) as connection:
                which = await wanted(connection, caller, request)
                found = await rows.records(connection, which, after, EXPORTED_AT_ONCE, newest_first=False)
                attempts = await rows.attempts(connection, [row.id for row in found])
            messages = [exported_record(row, attempts.get(row.id, ())) for row in found]
            if messages or is_first:
                yield lines(messages, with_names=is_first)
            is_first = False
            if len(found) < EXPORTED_AT_ONCE:
                return
            after = rows.Cursor(found[-1].started_us, found[-1].id)


def exported_record(row: Any, attempts: Sequence[Any]) -> tuple[UsageRecord, str]:
    """A record, and what the provider calls the last request that it got. Empty: it did not tell."""
    return record_message(row, attempts), (attempts[-1].upstream_request_id or "") if attempts else ""


async def wanted(connection: Any, caller: Caller, request: Any) -> rows.Filter:
    """The calls that are meant; raises InvalidRequest, NotFound for another's account."""
    own = caller.account_id or await connection.run_sync(root_account_id) or ""
    mine = frozenset(await rows.subtree(connection, own))
    asked = request.account_id or own
    if asked not in mine and asked != own:
        raise NotFound("There is no such account.", resource="account", id=asked[:200])
    word = STATUS_WORDS.get(request.status)
    if word is None:
        raise InvalidRequest("status is none that is known.", param="status")
    below = mine if asked == own else frozenset(await rows.subtree(connection, asked))
    return rows.Filter(
        account_ids=below if request.include_sub_accounts else {asked},
        top_id=asked if request.include_sub_accounts else None,
        key_id=given(request, "key_id"),
        gateway_id=given(request, "gateway_id"),
        model=given(request, "model"),
        tag=given(request, "tag"),
        status=word,
        start_us=moment_us(request, "start_time"),
        end_us=moment_us(request, "end_time"),
        request_id=given(request, "request_id") if hasattr(request, "request_id") else "",
    )


def given(request: Any, name: str) -> str:
    """A text of a filter; raises InvalidRequest for what no database takes."""
    value: str = getattr(request, name)
    if "\x00" in value:
        raise InvalidRequest(f"{name} must not hold a zero byte.", param=name)
    return value


def moment_us(request: Any, name: str) -> int | None:
    """A time of a filter. None: it is not given. Raises InvalidRequest."""
    return time_us(getattr(request, name), name) if request.HasField(name) else None


def page_size(asked: int) -> int:
    """How many are asked for; raises InvalidRequest."""
    if not 0 <= asked <= PAGE_AT_MOST:
        raise InvalidRequest(f"page_size must be 1 to {PAGE_AT_MOST}.", param="page_size")
    return asked or PAGE


def cursor(token: str) -> rows.Cursor | None:
    """Where a page begins; raises InvalidRequest."""
    if not token:
        return None
    match = CURSOR.fullmatch(token)
    if match is None:
        raise wrong_token()
    return rows.Cursor(int(match[1]), match[2])


def wrong_token() -> InvalidRequest:
    """The error for a token that no page gave."""
    return InvalidRequest("page_token is none that a page before gave.", param="page_token")
