import csv
import io
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from headgate.v1 import usage_pb2
from headgate.v1.usage_pb2 import USAGE_GROUPING_DAY, USAGE_GROUPING_HOUR, USAGE_GROUPING_MODEL, USAGE_GROUPING_TAG
from headgate.v1.usage_service_pb2 import ExportUsageRecordsRequest, ListUsageRecordsRequest, SummarizeUsageRequest

from gateway_core.call import Caller
from gateway_core.errors import InvalidRequest, NotFound
from gateway_core.metering.journal_place import root_account_id
from gateway_core.metering.ledger import Ledger
from gateway_core.metering.record import Attempt, Outcome
from gateway_core.metering.usage_book import UsageBook
from gateway_core.storage.database import Database
from gateway_core.storage.identifier import new_id
from gateway_core.storage.ledger_proof import proof
from tests.gateway_core.metering.rows import asked, text, told
from tests.gateway_core.storage.rows import account

ROOT = Caller(is_root=True)
ANSWERED = Outcome("ok", (Attempt("lab", "tiny", "ok", 1.0, 2.0, 200, "req_1"),))


async def answered(
    ledger: Ledger, outcome: Outcome = ANSWERED, tokens: tuple[int, int] | None = (10, 3), **values: Any
) -> str:
    record = await ledger.open(asked(count_prompt=lambda: 2, **values))
    record.measure.note(text("four"))
    if tokens is not None:
        record.measure.note(told(*tokens))
    await ledger.settle(record, outcome)
    return record.id


async def family(database: Database) -> tuple[str, str, str]:
    """The root account, one below it, and one below that."""
    root: str = await database.run(root_account_id)
    child, grandchild = new_id(), new_id()
    async with database.transaction() as connection:
        await connection.execute(account(id=child, parent_id=root))
        await connection.execute(account(id=grandchild, parent_id=child))
    return root, child, grandchild


async def test_records_come_in_pages_the_newest_first(database: Database, ledger: Ledger) -> None:
    made = [await answered(ledger) for _ in range(5)]
    book, seen, token = UsageBook(database), [], ""
    for size in (2, 2, 1):
        records, token = await book.records(ROOT, ListUsageRecordsRequest(page_size=2, page_token=token))
        assert len(records) == size
        seen += [record.id for record in records]
    assert (seen, token) == (made[::-1], "")


async def test_a_record_tells_all(database: Database, ledger: Ledger) -> None:
    tried = (Attempt("a", "m", "provider_refused", 1.0, 2.0, 503), Attempt("lab", "tiny", "ok", 2.0, 3.0, 200))
    await answered(
        ledger, Outcome("ok", tried), tag="t", metadata={"k": "v"}, dialect="openai", gateway_id="g", gateway_version=3
    )
    ((record,), _) = await UsageBook(database).records(ROOT, ListUsageRecordsRequest())
    assert (record.cost_usd, record.charged_usd, record.price.input_per_million) == ("0.000016", "0.000016", "1")
    assert (record.usage.prompt_tokens, record.usage.completion_tokens, record.usage.total_tokens) == (10, 3, 13)
    assert (record.status, record.finish_reason, record.dialect, record.tag) == (
        usage_pb2.USAGE_STATUS_OK,
        "stop",
        "openai",
        "t",
    )
    assert (record.gateway_id, record.gateway_version, dict(record.metadata)) == ("g", 3, {"k": "v"})
    failed, ok = record.attempts
    assert (failed.status, failed.http_status, failed.cost_usd) == (usage_pb2.USAGE_STATUS_FAILED, 503, "0")
    assert (ok.status, ok.cost_usd, ok.usage.prompt_tokens) == (usage_pb2.USAGE_STATUS_OK, "0.000016", 10)


async def test_an_open_record_has_no_cost(database: Database, ledger: Ledger) -> None:
    await ledger.open(asked())
    ((record,), _) = await UsageBook(database).records(ROOT, ListUsageRecordsRequest())
    assert (record.status, record.cost_usd, record.HasField("duration_ms")) == (usage_pb2.USAGE_STATUS_OPEN, "", False)


async def test_open_calls_have_their_place_among_the_others(database: Database, ledger: Ledger) -> None:
    ids = []
    for number in range(6):
        if number % 2:
            ids.append((await ledger.open(asked(tag=f"{number}"))).id)
        else:
            ids.append(await answered(ledger, tag=f"{number}"))
    book = UsageBook(database)
    pages: list[list[str]] = []
    token = ""
    while not pages or token:
        found, token = await book.records(ROOT, ListUsageRecordsRequest(page_size=2, page_token=token))
        pages.append([record.id for record in found])
    newest_first = ids[::-1]
    assert pages == [newest_first[:2], newest_first[2:4], newest_first[4:]]
    (found, _) = await book.records(ROOT, ListUsageRecordsRequest(status=usage_pb2.USAGE_STATUS_OPEN, tag="3"))
    assert [record.id for record in found] == [ids[3]]


async def test_what_was_estimated_is_told_as_charged(database: Database, ledger: Ledger) -> None:
    await answered(ledger, Outcome("cancelled"), tokens=None)
    ((record,), _) = await UsageBook(database).records(ROOT, ListUsageRecordsRequest())
    assert (record.usage.prompt_tokens, record.usage.completion_tokens, record.cost_usd) == (2, 1, "0.000004")


async def test_filters(database: Database, ledger: Ledger) -> None:
    first = await answered(ledger, tag="a", key_id="k", requested_model="x", request_id="one")
    second = await answered(ledger, Outcome("provider_broken"), tag="b", gateway_id="g")
    book = UsageBook(database)
    ((one, *_), _) = await book.records(ROOT, ListUsageRecordsRequest(request_id="one"))
    begin = one.start_time
    later = Timestamp(seconds=begin.seconds, nanos=begin.nanos)
    later.FromMicroseconds(begin.ToMicroseconds() + 1)
    for request, expected in (
        (ListUsageRecordsRequest(tag="a"), [first]),
        (ListUsageRecordsRequest(key_id="k"), [first]),
        (ListUsageRecordsRequest(gateway_id="g"), [second]),
        (ListUsageRecordsRequest(model="x"), [first]),
        (ListUsageRecordsRequest(model="tiny"), [second, first]),
        (ListUsageRecordsRequest(status=usage_pb2.USAGE_STATUS_FAILED), [second]),
        (ListUsageRecordsRequest(status=usage_pb2.USAGE_STATUS_OK), [first]),
        (ListUsageRecordsRequest(start_time=later), [second]),
        (ListUsageRecordsRequest(end_time=later), [first]),
        (ListUsageRecordsRequest(tag="none"), []),
    ):
        records, _ = await book.records(ROOT, request)
        assert [record.id for record in records] == expected, request


async def test_an_account_sees_its_own_and_those_below(database: Database, ledger: Ledger) -> None:
    root, child, grandchild = await family(database)
    ids = {name: await answered(ledger, account_id=name) for name in (root, child, grandchild)}
    book = UsageBook(database)

    async def seen(caller: str, **values: Any) -> set[str]:
        records, _ = await book.records(Caller(account_id=caller), ListUsageRecordsRequest(**values))
        return {record.id for record in records}

    assert await seen(child) == {ids[child]}
    assert await seen(child, include_sub_accounts=True) == {ids[child], ids[grandchild]}
    assert await seen(root, account_id=child) == {ids[child]}
    assert await seen(root, include_sub_accounts=True) == set(ids.values())
    for other in (root, new_id()):
        with pytest.raises(NotFound):
            await seen(child, account_id=other)
    with pytest.raises(NotFound):
        await seen(grandchild, account_id=child)


async def test_summaries_agree_with_records_and_balances(database: Database, ledger: Ledger) -> None:
    await answered(ledger, tag="a")
    await answered(ledger, tag="a", tokens=(0, 0))
    await answered(ledger, Outcome("provider_broken"), tag="b", tokens=(100, 1))
    await answered(ledger, Outcome("cancelled"), tokens=None)
    book = UsageBook(database)
    found = await book.summaries(ROOT, SummarizeUsageRequest(group_by=USAGE_GROUPING_TAG))
    rows = [(each.group, each.request_count, each.failed_request_count, each.cost_usd) for each in found.summaries]
    assert rows == [("b", 1, 1, "0.000102"), ("a", 2, 0, "0.000016"), ("", 1, 0, "0.000004")]
    assert (found.total.request_count, found.total.cost_usd, found.total.charged_usd) == (4, "0.000122", "0.000122")
    assert (found.total.usage.prompt_tokens, found.total.usage.completion_tokens) == (112, 5)
    async with database.reading() as connection:
        proved = await proof(connection)
    assert (proved.faults, proved.charged, proved.request_count) == ((), 122 * 10**6, 4)


async def test_days_and_hours_are_those_of_utc(database: Database, ledger: Ledger) -> None:
    await answered(ledger)
    book = UsageBook(database)
    ((record,), _) = await book.records(ROOT, ListUsageRecordsRequest())
    moment = record.start_time.ToDatetime()
    for grouping, form in ((USAGE_GROUPING_DAY, "%Y-%m-%d"), (USAGE_GROUPING_HOUR, "%Y-%m-%dT%H")):
        found = await book.summaries(ROOT, SummarizeUsageRequest(group_by=grouping))
        assert [each.group for each in found.summaries] == [moment.strftime(form)]


async def test_summaries_come_in_pages(database: Database, ledger: Ledger) -> None:
    for tag in "abc":
        await answered(ledger, tag=tag)
    book, groups, token = UsageBook(database), [], ""
    for _ in range(2):
        found = await book.summaries(
            ROOT, SummarizeUsageRequest(group_by=USAGE_GROUPING_TAG, page_size=2, page_token=token)
        )
        groups += [each.group for each in found.summaries]
        token = found.next_page_token
        assert found.total.request_count == 3
    assert (groups, token) == (["a", "b", "c"], "")


async def test_the_export_is_one_document_with_every_record(database: Database, ledger: Ledger) -> None:
    ids = [await answered(ledger, tag='a "quoted", tag\nof two lines') for _ in range(3)]
    document = b"".join([piece async for piece in UsageBook(database).exported(ROOT, ExportUsageRecordsRequest())])
    rows = list(csv.DictReader(io.StringIO(document.decode(), newline="")))
    assert [row["id"] for row in rows] == ids
    assert {row["cost_usd"] for row in rows} == {"0.000016"}
    assert {row["tag"] for row in rows} == {'a "quoted", tag\nof two lines'}
    assert rows[0]["stream"] == "true"
    assert {row["upstream_request_id"] for row in rows} == {"req_1"}


async def test_an_export_of_nothing_has_the_line_of_names(database: Database, ledger: Ledger) -> None:
    pieces = [piece async for piece in UsageBook(database).exported(ROOT, ExportUsageRecordsRequest(tag="none"))]
    assert b"".join(pieces).startswith(b"start_time,id,")
    assert b"".join(pieces).count(b"\r\n") == 1


@pytest.mark.parametrize(
    "request_",
    [
        ListUsageRecordsRequest(page_size=1001),
        ListUsageRecordsRequest(page_size=-1),
        ListUsageRecordsRequest(page_token="x"),
        ListUsageRecordsRequest(status=77),  # type: ignore[arg-type]
        ListUsageRecordsRequest(tag="\x00"),
        ListUsageRecordsRequest(start_time=Timestamp(seconds=2**62)),
    ],
)
async def test_what_cannot_be_meant_is_refused(
    database: Database, ledger: Ledger, request_: ListUsageRecordsRequest
) -> None:
    with pytest.raises(InvalidRequest) as raised:
        await UsageBook(database).records(ROOT, request_)
    assert raised.value.metadata["param"]


@pytest.mark.parametrize(
    "request_",
    [
        SummarizeUsageRequest(),
        SummarizeUsageRequest(group_by=USAGE_GROUPING_MODEL, page_token="1.2"),
        SummarizeUsageRequest(group_by=99),  # type: ignore[arg-type]
    ],
)
async def test_a_summary_of_nothing_known_is_refused(
    database: Database, ledger: Ledger, request_: SummarizeUsageRequest
) -> None:
    with pytest.raises(InvalidRequest):
        await UsageBook(database).summaries(ROOT, request_)
