"""`headgate usage`: what was used and what it cost, as a table, with a bar for each row."""

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import httpx
from google.protobuf.json_format import MessageToDict
from grpc import aio
from headgate.v1.usage_service_pb2 import SummarizeUsageRequest
from headgate.v1.usage_service_pb2_grpc import UsageServiceStub
from rich.console import Console
from rich.table import Table

from headgate_cli.address import LOOPBACK, Address
from headgate_cli.client import (
    CONNECT_SECONDS,
    LIST_SECONDS,
    MESSAGE_BYTES,
    channel_options,
    json_object,
    key_metadata,
    refused,
    unreachable,
)
from headgate_cli.commands import DEFAULT_URL
from headgate_cli.errors import CommandFailed, WrongUse

BAR_CHARACTERS = 30
SHORTEST_BAR = 8
GAP = 2
HEADINGS = ("CALLS", "FAILED", "INPUT", "OUTPUT", "COST $")
DAYS = 30
ROWS_AT_MOST = 1000
BLOCKS = " ▏▎▍▌▋▊▉█"

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class UsageOptions:
    """The command's options, as they were typed."""

    url: str | None = None
    grpc: str | None = None
    by: str = "day"
    days: int | None = None
    """Until the last day. None: 30, or all since the first day."""
    first: str | None = None
    """A day in UTC, as in 2026-01-31. None: as `days` says."""
    last: str | None = None
    """Likewise; None: today."""
    sub_accounts: bool = False
    as_json: bool = False


def run(options: UsageOptions) -> int:
    """Prints a table, or one JSON document."""
    return asyncio.run(show(options))


async def show(options: UsageOptions) -> int:
    """Asks for the summaries and prints them."""
    if options.url is not None and options.grpc is not None:
        raise WrongUse("--url and --grpc exclude each other")
    begin, end = period(options, datetime.now(UTC))
    asked = over_rest(options, begin, end) if options.grpc is None else over_grpc(options, options.grpc, begin, end)
    document = await asked
    if options.as_json:
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        console = Console(highlight=False, markup=False)
        console.print(table(document, options.by, console.width))
    return 0


def period(options: UsageOptions, now: datetime) -> tuple[datetime, datetime]:
    """When the calls began that are meant: from then on, and before then. Raises WrongUse."""
    if options.first is not None and options.days is not None:
        raise WrongUse("--from and --days exclude each other")
    last = now.replace(hour=0, minute=0, second=0, microsecond=0) if options.last is None else day(options.last, "--to")
    first = last - timedelta(days=(options.days or DAYS) - 1) if options.first is None else day(options.first, "--from")
    if first > last:
        raise WrongUse(f"there is nothing from {first:%Y-%m-%d} to {last:%Y-%m-%d}: the first day is after the last")
    return first, last + timedelta(days=1)


def day(text: str, option: str) -> datetime:
    """The beginning of a day in UTC; raises WrongUse."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise WrongUse(f"{option} must be a day such as 2026-01-31") from None


async def over_rest(options: UsageOptions, begin: datetime, end: datetime) -> Document:
    """The summaries by the admin API; raises CommandFailed."""
    base = (options.url or DEFAULT_URL).rstrip("/").removesuffix("/v1")
    query = {
        "group_by": options.by,
        "page_size": str(ROWS_AT_MOST),
        "start_time": f"{begin:%Y-%m-%dT%H:%M:%SZ}",
        "end_time": f"{end:%Y-%m-%dT%H:%M:%SZ}",
        "include_sub_accounts": str(options.sub_accounts).lower(),
    }
    timeout = httpx.Timeout(LIST_SECONDS, connect=CONNECT_SECONDS)
    is_near = urlsplit(base).hostname in LOOPBACK
    headers = dict(key_metadata(os.environ))
    try:
        async with httpx.AsyncClient(timeout=timeout, trust_env=not is_near, headers=headers) as http:
            response = await http.get(f"{base}/api/v1/usage/summary", params=query)
    except (httpx.HTTPError, httpx.InvalidURL):
        raise unreachable(base) from None
    document = json_object(response.content).get("data")
    if response.status_code != 200 or not isinstance(document, dict):
        raise refused(response.status_code, response.content)
    return document


async def over_grpc(options: UsageOptions, text: str, begin: datetime, end: datetime) -> Document:
    """The summaries by the contract; raises CommandFailed."""
    address = Address.parse(text, "--grpc")
    request = SummarizeUsageRequest(
        group_by=f"USAGE_GROUPING_{options.by.upper()}",
        page_size=ROWS_AT_MOST,
        include_sub_accounts=options.sub_accounts,
    )
    request.start_time.FromDatetime(begin)
    request.end_time.FromDatetime(end)
    async with aio.insecure_channel(str(address), channel_options(address, MESSAGE_BYTES)) as channel:
        try:
            asked = UsageServiceStub(channel).SummarizeUsage(
                request, timeout=LIST_SECONDS, metadata=key_metadata(os.environ)
            )
            response = await asked
        except aio.AioRpcError as error:
            details = " ".join((error.details() or "no further words").split())
            raise CommandFailed(f"{details} ({error.code().name})") from None
    return MessageToDict(response, preserving_proto_field_name=True)


def table(document: Document, by: str, width: int) -> Table:
    """The summaries, one in a row with a bar of its cost, and all together, on so many characters.

    No digit is left out: where there is little room the bars are shorter, and then the names are folded.
    """
    summaries = document.get("summaries") or []
    names = [summary.get("group") or "(none)" for summary in summaries]
    cells = aligned([numbers(summary) for summary in [*summaries, document.get("total") or {}]])
    rows = Table(box=None, pad_edge=False)
    rows.add_column(by.upper(), overflow="fold")
    taken = 0
    for heading, column in zip(HEADINGS, zip(*cells, strict=True), strict=True):
        widest = max(map(len, [heading, *column]))
        rows.add_column(heading, justify="right", min_width=widest, no_wrap=True)
        taken += widest + GAP
    longest = max(map(len, [by, *names]))
    room = max(SHORTEST_BAR, min(BAR_CHARACTERS, width - taken - longest - GAP))
    rows.add_column("", min_width=room, no_wrap=True)
    bars = bars_of([Decimal(summary.get("cost_usd") or 0) for summary in summaries], room)
    for name, row, bar in zip([*names, "total"], cells, [*bars, ""], strict=True):
        rows.add_row(name, *row, bar)
    return rows


def aligned(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The rows with as many decimal places in each cost, the last cell, as the longest has."""
    places = max(len(row[-1].partition(".")[2]) for row in rows)
    return [(*row[:-1], f"{Decimal(row[-1]):.{places}f}") for row in rows]


def numbers(summary: Document) -> tuple[str, ...]:
    """What a row says in numbers."""
    usage = summary.get("usage") or {}
    counts = (
        summary.get("request_count"),
        summary.get("failed_request_count"),
        usage.get("prompt_tokens"),
        usage.get("completion_tokens"),
    )
    return (*(f"{int(count or 0):,}" for count in counts), summary.get("cost_usd") or "0")


def bars_of(costs: Sequence[Decimal], characters: int = BAR_CHARACTERS) -> list[str]:
    """A bar for each cost, the longest for the highest, in eighths of a character."""
    highest = max(costs, default=Decimal(0))
    if not highest:
        return [""] * len(costs)
    eighths = [int(cost / highest * characters * 8) for cost in costs]
    return [(BLOCKS[8] * (count // 8) + BLOCKS[count % 8]).rstrip() for count in eighths]
