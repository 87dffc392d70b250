import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from sqlalchemy import update

from gateway_core.config import Config, LogConfig, ModelConfig, PriceConfig, TargetConfig
from gateway_core.storage.database import Database
from gateway_core.storage.location import location
from gateway_core.storage.store import Store
from gateway_core.storage.tables.metering import balances
from gateway_core.telemetry.log import configure_log
from headgate_cli import ledger_doctor
from headgate_cli.errors import CommandFailed, WrongUse
from headgate_cli.ledger_doctor import proved_at
from headgate_cli.usage import UsageOptions, period, show
from headgate_cli.usage_table import bars_of, table
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
    assert row == ["echo", "2", "0", "4", "4", "0.000012"]
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


async def test_one_call_is_no_calls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with running(CONFIG, store=Store.at(None, tmp_path, {})) as gateway, httpx.AsyncClient() as http:
        await http.post(f"{gateway.http_url}/v1/chat/completions", json=ASKED)
    assert await asyncio.to_thread(ledger_doctor.run, config=None, data=tmp_path) == 0
    assert capsys.readouterr().out.startswith("1 call, 0 of them open; charged: 0.000006 US$\n")


def test_without_a_database_there_is_no_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ledger_doctor.run(config=None, data=tmp_path) == 0
    assert capsys.readouterr().out == "there is no ledger yet\n"


def test_a_directory_that_is_not_there_has_no_ledger_to_prove(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="there is no directory"):
        ledger_doctor.run(config=None, data=tmp_path / "none")


def test_the_ledger_is_proved_without_the_keys_of_the_providers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "headgate.yaml"
    config.write_text(
        "providers: {a: {kind: openai, base_url: 'http://x', api_key: '${NOT_SET_HERE}'}}", encoding="utf-8"
    )
    assert ledger_doctor.run(config=config, data=tmp_path) == 0
    assert capsys.readouterr().out == "there is no ledger yet\n"


def test_no_digit_is_left_out_where_there_is_little_room() -> None:
    name = "a-model-with-a-name-that-is-longer-than-the-whole-line-of-a-narrow-terminal"
    usage = {"prompt_tokens": "1234567", "completion_tokens": "7654321"}
    summary = {"group": name, "request_count": "98765", "usage": usage, "cost_usd": "12.345678"}
    document = {"summaries": [summary, {"group": "b", "cost_usd": "0.5"}], "total": summary}
    lines = table(document, "model", {}, 80)
    printed = "\n".join(lines)
    assert all(len(line) <= 80 for line in lines)
    assert "98,765       0  1,234,567  7,654,321  12.345678  ████████" in printed
    assert " 0.500000" in printed
    assert "…" not in printed
    assert name in "".join(line.split(" ")[0] for line in lines[1:])


ID = "0190b3c4-0000-7000-8000-000000000001"
OTHER_ID = "0190b3c4-0000-7000-8000-000000000002"


@pytest.mark.parametrize("width", [None, 20, 80, 200])
def test_an_id_is_whole_and_its_name_stands_beside(width: int | None) -> None:
    summaries = [{"group": ID, "cost_usd": "2"}, {"group": OTHER_ID, "cost_usd": "1"}, {"cost_usd": "0"}]
    heading, first, second, none, total = table({"summaries": summaries}, "key", {ID: "app of 1"}, width)
    assert heading.split() == ["KEY", "LABEL", "CALLS", "FAILED", "INPUT", "OUTPUT", "COST", "$"]
    assert first.startswith(f"{ID}  app of 1  ")
    assert second.split()[:2] == [OTHER_ID, "0"]
    assert (none.split()[0], total.split()[0]) == ("(none)", "total")
    assert ("█" in first) == (width == 200)


def test_nobody_reads_bars_and_spaces_in_a_pipe() -> None:
    document = {"summaries": [{"group": "x" * 300, "cost_usd": "2"}, {"group": "b\x1b[2J"}], "total": {"cost_usd": "2"}}
    lines = table(document, "model", {}, None)
    assert [line.split()[0] for line in lines] == ["MODEL", "x" * 300, "b�[2J", "total"]
    assert all(line == line.rstrip() and "█" not in line for line in lines)


async def test_groups_that_are_ids_are_told_with_their_names_over_rest_and_grpc(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root_key = "sk-hg-root00000000abcdefghijklmnopqrstuvwxyz0123456789"
    monkeypatch.setenv("HEADGATE_API_KEY", root_key)
    headers = {"authorization": f"Bearer {root_key}"}
    async with (
        running(CONFIG, store=Store.at(None, tmp_path, {}), root_key=root_key) as gateway,
        httpx.AsyncClient(base_url=gateway.http_url, headers=headers) as http,
    ):
        made = (await http.post("/api/v1/gateways", json={"name": "support", "model": "small"})).json()["data"]
        gone = (await http.post("/api/v1/gateways", json={"name": "gone", "model": "small"})).json()["data"]
        for slug in (made["slug"], made["slug"], gone["slug"]):
            assert (await http.post("/v1/chat/completions", json={**ASKED, "model": slug})).status_code == 200
        assert (await http.delete(f"/api/v1/gateways/{gone['id']}")).status_code == 200
        account_id = made["account_id"]
        account = (await http.get(f"/api/v1/accounts/{account_id}")).json()["data"]["name"]
        for way in (UsageOptions(url=gateway.http_url), UsageOptions(grpc=gateway.grpc_address)):
            await show(replace(way, by="gateway"))
            _, first, second, _ = capsys.readouterr().out.splitlines()
            assert first.split()[:3] == [made["id"], made["slug"], "2"]
            assert second.split()[:2] == [gone["id"], "1"]
            await show(replace(way, by="account"))
            assert capsys.readouterr().out.splitlines()[1].split()[:3] == [account_id, account, "3"]
            await show(replace(way, by="key"))
            _, row, _ = capsys.readouterr().out.splitlines()
            key_id = row.split()[0]
            label = (await http.get(f"/api/v1/keys/{key_id}")).json()["data"]["label"]
            assert row.startswith(f"{key_id}  {label}  ")


async def test_who_brings_no_key_is_told_where_it_belongs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADGATE_API_KEY", raising=False)
    config = CONFIG.model_copy(update={"authentication": "required"})
    async with running(config, store=Store.at(None, tmp_path, {})) as gateway:
        for way in (UsageOptions(url=gateway.http_url), UsageOptions(grpc=gateway.grpc_address)):
            with pytest.raises(CommandFailed, match=r": put a key into HEADGATE_API_KEY$"):
                await show(way)
            monkeypatch.setenv("HEADGATE_API_KEY", "sk-hg-wrong")
            with pytest.raises(CommandFailed, match=r"\)$"):
                await show(way)
            monkeypatch.delenv("HEADGATE_API_KEY")


def test_a_bar_is_as_long_as_its_cost() -> None:
    assert bars_of([Decimal(2), Decimal(1), Decimal(0)]) == ["█" * 30, "█" * 15, ""]
    assert bars_of([Decimal(0)]) == [""]
    assert bars_of([]) == []
