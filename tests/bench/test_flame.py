import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from bench.flame import main, svg, tree

STACKS = [
    "run (headgate_cli/serve.py:10);answer (rest_bridge/app.py:5);parse (rest_bridge/body.py:9) 30",
    "run (headgate_cli/serve.py:11);answer (rest_bridge/app.py:7);pack (/x/site-packages/grpc/aio/_call.py:3) 10",
    "run (headgate_cli/serve.py:12);collect 59",
    "other (a.py:1) 100",
    "a line that is none",
    "run (headgate_cli/serve.py:12);rare (gateway_core/call.py:1) 1",
]


def test_stacks_are_merged_whatever_their_lines_and_only_those_of_the_root() -> None:
    top = tree(STACKS, "headgate_cli")
    (run,) = top.called.values()
    assert (top.count, run.count, run.name) == (100, 100, "run (headgate_cli/serve.py)")
    answer = run.called["answer (rest_bridge/app.py)"]
    assert {name: frame.count for name, frame in answer.called.items()} == {
        "parse (rest_bridge/body.py)": 30,
        "pack (grpc/aio/_call.py)": 10,
    }


def test_the_picture_has_each_function_as_wide_as_its_share() -> None:
    root = ElementTree.fromstring(svg(tree(STACKS, "")))  # our own
    space = "{http://www.w3.org/2000/svg}"
    found = {
        group.findtext(f"{space}title"): float(group.find(f"{space}rect").get("width", ""))  # type: ignore[union-attr]
        for group in root.iter(f"{space}g")
    }
    assert found["all: 100.0 %"] == pytest.approx(1200, abs=1)
    assert found["answer (rest_bridge/app.py): 20.0 %"] == pytest.approx(240, abs=1)
    assert found["other (a.py): 50.0 %"] == pytest.approx(600, abs=1)


def test_a_file_without_such_stacks_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stacks = tmp_path / "stacks"
    stacks.write_text("\n".join(STACKS), encoding="utf-8")
    with pytest.raises(SystemExit):
        main([str(stacks), str(tmp_path / "out.svg"), "--root", "nothing_of_the_kind"])
    assert "no stack" in capsys.readouterr().err
    assert main([str(stacks), str(tmp_path / "out.svg")]) == 0
    assert (tmp_path / "out.svg").read_text(encoding="utf-8").startswith("<svg")
    assert capsys.readouterr().out.splitlines() == [
        " 84.5 %  other",
        " 15.0 %  rest_bridge",
        "  0.5 %  gateway_core",
    ]
