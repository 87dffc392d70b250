"""What is told of a database that is away, and how often."""

from pathlib import Path

import httpx
import pytest

from gateway_core.config import Config
from gateway_core.storage.outage import Outage
from gateway_core.storage.store import Store
from tests.support.gateway import running


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("gateway_core.storage.outage.time.monotonic", lambda: self.now)


def of_server(*, believed: float) -> Outage:
    async def answers() -> bool:
        return False

    found = Outage(answers, lambda: None)
    found.believed_seconds = believed
    return found


async def test_what_fails_again_and_again_is_told_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    away = of_server(believed=0)
    assert [away.tells("webhooks_not_read") for _ in range(3)] == [True, False, False]
    assert away.tells("heartbeat_not_written")
    clock.now += 59
    assert not away.tells("webhooks_not_read")
    clock.now += 1
    assert away.tells("webhooks_not_read")


async def test_in_an_outage_that_is_told_nothing_else_is_for_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    away = of_server(believed=3600)
    await away.doubt()
    assert away.is_on
    assert not away.tells("webhooks_not_read")
    clock.now += 60
    assert away.tells("webhooks_not_read")
    away.end()
    assert away.tells("webhooks_not_read")


@pytest.mark.parametrize("believed", [0, 3600])
async def test_a_database_that_is_not_heard_is_not_up(believed: float) -> None:
    away = of_server(believed=believed)
    assert away.is_up
    await away.doubt()
    assert not away.is_up
    away.end()
    assert away.is_up


async def test_the_metrics_tell_whether_the_database_answers(tmp_path: Path) -> None:
    config = Config(authentication="optional")
    async with running(config, store=Store.at(None, tmp_path, {})) as gateway, httpx.AsyncClient() as http:
        shown = (await http.get(f"{gateway.http_url}/metrics")).text
        assert "\nheadgate_database_up 1.0\n" in shown
        assert "\nheadgate_ledger_waiting 0.0\n" in shown
