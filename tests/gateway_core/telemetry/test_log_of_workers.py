"""The lines of several processes that write to the same pipe."""

import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import structlog

from gateway_core.config import Config, LogConfig
from gateway_core.telemetry import Telemetry
from gateway_core.telemetry.log import LogWorker, configure_log
from tests.gateway_core.telemetry.calls import new_call

pytestmark = pytest.mark.usefixtures("unconfigured")

ROOT = Path(__file__).parents[3]
PROCESSES = 3
LINES = 60
CHARACTERS = 70_000
"""Of a line: more than a pipe takes at once."""


def test_each_line_tells_which_worker_has_written_it(tmp_path: Path) -> None:
    stream = io.BytesIO()
    configure_log(LogConfig(), stream, LogWorker(7, tmp_path / "lock"))
    telemetry = Telemetry(Config(), {})
    telemetry.end(telemetry.begin(new_call()), None)
    structlog.get_logger().warning("odd")
    configure_log(LogConfig(), stream)
    structlog.get_logger().warning("even")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["event"], line.get("worker")) for line in lines] == [("call", 7), ("odd", 7), ("even", None)]


def write(number: int, lock: Path) -> None:
    """What a process of its own does."""
    configure_log(LogConfig(format="json"), None, LogWorker(number, lock))
    for _ in range(LINES):
        structlog.get_logger().warning("long", text=str(number) * CHARACTERS)


def test_long_lines_of_several_processes_stay_whole(tmp_path: Path) -> None:
    read, written = os.pipe()
    lines: list[bytes] = []
    with os.fdopen(read, "rb") as reading:
        reader = threading.Thread(target=lambda: lines.extend(reading))
        reader.start()
        env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}"}
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", __name__, str(number), str(tmp_path / "lock")], env=env, stderr=written
            )
            for number in range(PROCESSES)
        ]
        os.close(written)
        for process in processes:
            assert process.wait(60) == 0
        reader.join(60)
    assert len(lines) == PROCESSES * LINES
    for line in lines:
        found = json.loads(line)
        assert found["text"] == str(found["worker"]) * CHARACTERS


if __name__ == "__main__":
    write(int(sys.argv[1]), Path(sys.argv[2]))
