import pytest

from headgate_cli import workers, workers_check
from headgate_cli.checks import circuit_text
from headgate_cli.workers_check import workers_checks


@pytest.fixture(autouse=True)
def _two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "processors", lambda: 2)
    monkeypatch.setattr(workers_check, "processors", lambda: 2)


def test_one_process_is_nothing_to_tell_of() -> None:
    assert list(workers_checks(1, "darwin")) == []


def test_more_workers_than_processors_are_told() -> None:
    assert [check.verdict for count in (2, 3) for check in workers_checks(count, "linux")] == ["ok", "note"]
    (check,) = workers_checks("auto", "linux")
    assert check.text == "2 on 2 processors"


def test_workers_elsewhere_than_on_linux_are_wrong() -> None:
    (check,) = workers_checks(2, "darwin")
    assert check.verdict == "wrong"


def test_the_circuits_of_workers_are_told_apart() -> None:
    labels = {"gen_ai_provider_name": "lab", "gen_ai_request_model": "tiny"}
    assert circuit_text({"worker": "3", **labels}, "open") == "lab/tiny open in worker 3"
    assert circuit_text(labels, "half open") == "lab/tiny half open"
