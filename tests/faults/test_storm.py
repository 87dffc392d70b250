"""The short form of `make storm`."""

from pathlib import Path

import pytest

from tests.faults.storm import storm
from tests.faults.storm_report import printed, problems


@pytest.mark.slow
async def test_vendors_that_fail_three_times_in_ten_spoil_no_answer_and_no_record(tmp_path: Path) -> None:
    for report in await storm(tmp_path, seed=9, callers=8, seconds=6):
        assert list(problems(report)) == [], printed(report)
        assert any(call.outcome == "whole" for call in report.seen)
        assert report.vendors["lab"].faults.total() > 5
