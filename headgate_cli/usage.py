"""`headgate usage`: what was used and what it cost, as a table."""

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
from google.protobuf.json_format import MessageToDict
from grpc import aio
from headgate.v1.account_service_pb2 import GetAccountRequest
from headgate.v1.account_service_pb2_grpc import AccountServiceStub
from headgate.v1.gateway_service_pb2 import GetGatewayRequest
from headgate.v1.gateway_service_pb2_grpc import GatewayServiceStub
from headgate.v1.key_service_pb2 import GetKeyRequest
from headgate.v1.key_service_pb2_grpc import KeyServiceStub
from headgate.v1.usage_service_pb2 import SummarizeUsageRequest
from headgate.v1.usage_service_pb2_grpc import UsageServiceStub

from headgate_cli.client import (
    LIST_SECONDS,
    grpc_channel,
    grpc_failure,
    http_client,
    json_object,
    key_metadata,
    refused,
)
from headgate_cli.commands import DEFAULT_URL
from headgate_cli.errors import WrongUse
from headgate_cli.unreachable import unreachable
from headgate_cli.usage_table import table

DAYS = 30
ROWS_AT_MOST = 1000
AT_ONCE = 8
"""Names that are asked for at the same time."""

NAMED = {"key": ("keys", "label"), "gateway": ("gateways", "slug"), "account": ("accounts", "name")}
"""Where the admin API has the things that are grouped by their ids, and the field that people know them by."""

Document = dict[str, Any]
Told = tuple[Document, dict[str, str]]
"""The summaries, and the names of groups by their ids."""


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
    document, names = await asked
    if options.as_json:
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        print("\n".join(table(document, options.by, names, width)))
    return 0


async def names_of(options: UsageOptions, document: Document, ask: Callable[[str], Awaitable[str]]) -> dict[str, str]:
    """The names of the groups by their ids; `ask` tells one, "" of what is not there any more."""
    if options.by not in NAMED or options.as_json:
        return {}
    ids = [str(summary["group"]) for summary in document.get("summaries", []) if summary.get("group")]
    turns = asyncio.Semaphore(AT_ONCE)

    async def named(id_: str) -> tuple[str, str]:
        async with turns:
            return id_, await ask(id_)

    return dict(await asyncio.gather(*map(named, ids)))


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


async def over_rest(options: UsageOptions, begin: datetime, end: datetime) -> Told:
    """The summaries by the admin API; raises CommandFailed."""
    base = (options.url or DEFAULT_URL).rstrip("/").removesuffix("/v1")
    query = {
        "group_by": options.by,
        "page_size": str(ROWS_AT_MOST),
        "start_time": f"{begin:%Y-%m-%dT%H:%M:%SZ}",
        "end_time": f"{end:%Y-%m-%dT%H:%M:%SZ}",
        "include_sub_accounts": str(options.sub_accounts).lower(),
    }
    try:
        async with http_client(base, LIST_SECONDS) as http:
            response = await http.get(f"{base}/api/v1/usage/summary", params=query)
            document = json_object(response.content).get("data")
            if response.status_code != 200 or not isinstance(document, dict):
                raise refused(response.status_code, response.content)
            return document, await names_of(options, document, lambda id_: name_over_rest(http, base, options.by, id_))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise unreachable(base, error) from None


async def name_over_rest(http: httpx.AsyncClient, base: str, by: str, id_: str) -> str:
    """What people know a thing by, which the admin API tells; "" where it is not there any more."""
    collection, field = NAMED[by]
    response = await http.get(f"{base}/api/v1/{collection}/{quote(id_, safe='')}")
    data = json_object(response.content).get("data") if response.status_code == 200 else None
    return str(data.get(field) or "") if isinstance(data, dict) else ""


async def over_grpc(options: UsageOptions, place: str, begin: datetime, end: datetime) -> Told:
    """The summaries by the contract; raises CommandFailed."""
    request = SummarizeUsageRequest(
        group_by=f"USAGE_GROUPING_{options.by.upper()}",
        page_size=ROWS_AT_MOST,
        include_sub_accounts=options.sub_accounts,
    )
    request.start_time.FromDatetime(begin)
    request.end_time.FromDatetime(end)
    async with grpc_channel(place) as channel:
        try:
            asked = UsageServiceStub(channel).SummarizeUsage(
                request, timeout=LIST_SECONDS, metadata=key_metadata(os.environ)
            )
            response = await asked
        except aio.AioRpcError as error:
            raise grpc_failure(error, place) from None
        document = MessageToDict(response, preserving_proto_field_name=True)
        return document, await names_of(options, document, lambda id_: name_over_grpc(channel, options.by, id_))


async def name_over_grpc(channel: aio.Channel, by: str, id_: str) -> str:
    """What people know a thing by, which the contract tells; "" where it is not there any more."""
    told: dict[str, Any] = {"timeout": LIST_SECONDS, "metadata": key_metadata(os.environ)}
    try:
        if by == "key":
            return (await KeyServiceStub(channel).GetKey(GetKeyRequest(id=id_), **told)).key.label
        if by == "gateway":
            return (await GatewayServiceStub(channel).GetGateway(GetGatewayRequest(id=id_), **told)).gateway.slug
        return (await AccountServiceStub(channel).GetAccount(GetAccountRequest(id=id_), **told)).account.name
    except aio.AioRpcError:
        return ""
