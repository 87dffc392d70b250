"""A run's JSON becomes tables that Markdown can read."""

import json
from pathlib import Path
from subprocess import run
from sys import executable

from bench.figures import spread
from bench.process import ROOT


def test_the_tables_of_a_run_have_a_cell_for_each_column(tmp_path: Path) -> None:
    row = {"scenario": "REST unary", "server": "headgate, all on", "connections": 16}
    row |= {"cpu_us_per_request": spread([50, 60]), "ratio_to_envoy": spread([2, 3])}
    goal = {"path": "REST unary", "goal": "at most 2.2 of Envoy", "measured": spread([2, 3]), "verdict": "missed"}
    streams = {"server": "envoy", "wire": "REST", "streams": 20, "whole": 20, "kib_per_stream": 41.5}
    figures = {
        "machine": {"cores": 2, "python": "3.11", "system": "Linux"},
        "options": {"rounds": 2, "connections": [1, 16]},
        "other_programs_cores": spread([0.02]),
        "rows": [row],
        "goals": [goal, goal | {"measured": None}, goal | {"measured": 1.5}],
        "open_streams": [streams],
        "peers": {"rows": [row]},
    }
    file = tmp_path / "bench.json"
    file.write_text(json.dumps(figures))
    said = run([executable, "-m", "bench.markdown", str(file)], cwd=ROOT, capture_output=True, text=True, check=True)
    tables = [block.splitlines() for block in said.stdout.strip().split("\n\n")[1:]]
    assert len(tables) == 4
    for table in tables:
        assert len({line.count("|") for line in table}) == 1
    assert "| REST unary | headgate, all on | | 55.0 (2.50) |" in tables[1]
    assert "| envoy | REST | 20 | 20 | 41.5 |" in tables[2]
