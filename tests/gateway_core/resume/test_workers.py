"""The ids of streams that several workers run."""

from pathlib import Path
from typing import Any, cast

import pytest

from gateway_core.call import Caller
from gateway_core.config import DetachConfig
from gateway_core.errors import NotFound
from gateway_core.resume.streams import Streams
from gateway_core.resume.worker import Worker, connection_seconds


def streams(number: int | None) -> Streams:
    worker = None if number is None else Worker(number, "lab", Path("nowhere"))
    return Streams(DetachConfig(process="lab"), worker)


@pytest.mark.parametrize(
    ("identity", "number"),
    [
        ("lab-3w1f-secret", 3),
        ("lab-12w1-secret", 12),
        ("lab-2w1-secret", None),
        ("lab-1f-secret", None),
        ("other-3w1-secret", None),
        ("lab-w1-secret", None),
        ("lab-x3w1-secret", None),
        ("lab-\u0663w1-secret", None),
        ("lab-" + "9" * 5000 + "w1-secret", None),
        ("lab-3", None),
        ("lab-", None),
        ("", None),
    ],
)
def test_the_id_of_a_stream_tells_which_other_worker_runs_it(identity: str, number: int | None) -> None:
    assert streams(2).worker_of(identity) == number
    assert streams(None).worker_of(identity) is None


def test_an_id_of_this_worker_that_stands_for_nothing_is_not_found() -> None:
    with pytest.raises(NotFound):
        streams(2).find("lab-2w1-secret", cast(Caller, Any))


def test_the_others_are_those_that_have_a_socket(tmp_path: Path) -> None:
    for name in ("1.sock", "12.sock", "2.sock", "x.sock", "3.sock.old", "log.lock"):
        (tmp_path / name).touch()
    assert Worker(2, "lab", tmp_path).others() == [1, 12]


def test_connections_are_asked_to_go_within_the_grace_but_not_all_the_time() -> None:
    assert [connection_seconds(grace) for grace in (0.1, 5, 30, 3600)] == [1, 4, 24, 60]
