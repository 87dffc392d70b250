import pytest
from google.protobuf.duration_pb2 import Duration

from gateway_core.errors import InvalidRequest
from gateway_core.resume.duration import asked_seconds


@pytest.mark.parametrize(
    ("text", "seconds"), [("60s", 60), ("60", 60), ("1.5s", 1.5), ("0s", 0), (" 7s ", 7), ("0.000000001s", 1e-9)]
)
def test_a_time_is_read_as_protobuf_writes_it(text: str, seconds: float) -> None:
    assert asked_seconds(None, {"x-headgate-detach": text}) == seconds


@pytest.mark.parametrize("text", ["", "s", "1m", "-1s", "1e3s", "nan", "inf", "1.s", "9" * 10 + "s", "1s2s"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        asked_seconds(None, {"x-headgate-detach": text})


def test_the_field_counts_before_the_metadata() -> None:
    assert asked_seconds(Duration(seconds=5), {"x-headgate-detach": "60s"}) == 5
    assert asked_seconds(Duration(), {"x-headgate-detach": "60s"}) == 0
    assert asked_seconds(None, {}) is None


def test_a_negative_time_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        asked_seconds(Duration(seconds=-1), {})
