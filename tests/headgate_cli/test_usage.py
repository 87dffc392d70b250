import asyncio
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from rich.console import Console
from sqlalchemy import update

from gateway_core.config import Config, LogConfig, ModelConfig, PriceConfig, TargetConfig
from gateway_core.storage.database import Database
from gateway_core.storage.location import location
from gateway_core.storage.store import Store
from gateway_core.storage.tables.metering import balances
from gateway_core.telemetry.log import configure_log
from headgate_cli import ledger_doctor
from headgate_cli.errors import WrongUse
from headgate_cli.ledger_doctor import proved_at
from headgate_cli.usage import UsageOptions, bars_of, period, show, table
from tests.support.gateway import running

SMALL = ModelConfig(
    targets=(TargetConfig(provider="echo", model="echo"),),
    price=PriceConfig.model_validate({"input_per_million": "1", "output_per_million": "2"}),
)
CONFIG = Config(models={"small": SMALL}, authentication="optional")
ASKED = {"model": "small", "messages": [{"role": "user", "content": "one two"}]}


@pytest.fixture(autouse=True)
def quiet() -> None:
    configure_log(LogConfig(level="error"))


async def test_the_table_and_the_headers_agree_over_rest_and_grpc(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(CONFIG, store=Store.at(None, tmp_path, {})) as gateway:
        async with httpx.AsyncClient(base_url=gateway.http_url) as http:
            for _ in range(2):
                response = await http.post("/v1/chat/completions", json=ASKED)
                assert response.headers["x-headgate-cost"] == "0.000006"
        assert await show(UsageOptions(url=gateway.http_url, by="model")) == 0
        over_rest = capsys.readouterr().out
        assert await show(UsageOptions(grpc=gateway.grpc_address, by="model")) == 0
        assert capsys.readouterr().out == over_rest
        assert await show(UsageOptions(url=gateway.http_url, as_json=True)) == 0
        assert json.loads(capsys.readouterr().out)["total"]["cost_usd"] == "0.000012"
    heading, row, total = [line.split() for line in over_rest.splitlines()]
    assert heading == ["MODEL", "CALLS", "FAILED", "INPUT", "OUTPUT", "COST", "$"]
    assert row == ["echo", "2", "0", "4", "4", "0.000012", "█" * 30]
    assert total == ["total", "2", "0", "4", "4", "0.000012"]
    proved = await proved_at(None, tmp_path)
    assert proved is not None
    assert (proved.request_count, proved.open_count, proved.charged, proved.faults) == (2, 0, 12 * 10**6, ())


@pytest.mark.parametrize(
    ("options", "first", "end"),
    [
        (UsageOptions(), "2026-02-10", "2026-03-12"),
        (UsageOptions(days=1), "2026-03-11", "2026-03-12"),
        (UsageOptions(first="2026-01-31"), "2026-01-31", "2026-03-12"),
        (UsageOptions(first="2026-01-31", last="2026-01-31"), "2026-01-31", "2026-02-01"),
        (UsageOptions(last="2026-01-31", days=2), "2026-01-30", "2026-02-01"),
    ],
)
def test_a_period_is_of_whole_days(options: UsageOptions, first: str, end: str) -> None:
    begun, ended = period(options, datetime(2026, 3, 11, 23, 59, tzinfo=UTC))
    assert (f"{begun:%Y-%m-%d}", f"{ended:%Y-%m-%d}") == (first, end)


@pytest.mark.parametrize(
    "options",
    [
        UsageOptions(first="yesterday"),
        UsageOptions(first="2026-01-01", days=3),
        UsageOptions(first="2026-01-02", last="2026-01-01"),
    ],
)
def test_a_period_that_is_none_is_refused(options: UsageOptions) -> None:
    with pytest.raises(WrongUse):
        period(options, datetime(2026, 3, 11, tzinfo=UTC))


async def test_a_balance_that_is_wrong_by_the_least_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(CONFIG, store=Store.at(None, tmp_path, {})) as gateway, httpx.AsyncClient() as http:
        await http.post(f"{gateway.http_url}/v1/chat/completions", json=ASKED)
    async with Database(location(None, tmp_path)) as database, database.transaction() as connection:
        await connection.execute(update(balances).values(spent_pico_usd=balances.c.spent_pico_usd + 1))
    proved = await proved_at(None, tmp_path)
    assert proved is not None
    (fault,) = proved.faults
    assert fault.endswith(": spent is 6000001 picodollars and should be 6000000: 1 too much")
    assert await asyncio.to_thread(ledger_doctor.run, config=None, data=tmp_path) == 1
    assert f"WRONG  {fault}" in capsys.readouterr().out


def test_without_a_database_there_is_no_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ledger_doctor.run(config=None, data=tmp_path / "none") == 0
    assert capsys.readouterr().out == "there is no ledger yet\n"


def test_no_digit_is_left_out_where_there_is_little_room() -> None:
    name = "a-model-with-a-name-that-is-longer-than-the-whole-line-of-a-narrow-terminal"
    usage = {"prompt_tokens": "1234567", "completion_tokens": "7654321"}
    summary = {"group": name, "request_count": "98765", "usage": usage, "cost_usd": "12.345678"}
    document = {"summaries": [summary, {"group": "b", "cost_usd": "0.5"}], "total": summary}
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table(document, "model", console.width))
    printed = console.export_text()
    assert all(len(line) <= 80 for line in printed.splitlines())
    assert "98,765       0  1,234,567  7,654,321  12.345678  ████████" in printed
    assert " 0.500000" in printed
    assert "…" not in printed
    assert name in "".join(line.split(" ")[0] for line in printed.splitlines()[1:])


def test_a_bar_is_as_long_as_its_cost() -> None:
    assert bars_of([Decimal(2), Decimal(1), Decimal(0)]) == ["█" * 30, "█" * 15, ""]
    assert bars_of([Decimal(0)]) == [""]
    assert bars_of([]) == []
