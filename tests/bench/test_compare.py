"""Two trees are compared pair by pair, and each is the tree that it is said to be."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench import headgate
from bench.compare import BASE, HEAD, NotComparable, assert_own_sources, options_of, parser, ratios, table, worktree
from bench.headgate import all_on
from bench.load import Outcome
from bench.process import ROOT
from bench.run import Measurements
from bench.scenario import UNARY, Measure


def measurements(base: list[float], head: list[float]) -> Measurements:
    found = Measurements()
    for name, costs in ((BASE, base), (HEAD, head)):
        found.outcomes[Measure(UNARY.name, name, 16)] = [
            Outcome(requests=10, server_cpu=cost * 10e-6) for cost in costs
        ]
    return found


def in_a_repository() -> bool:
    return subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True).returncode == 0


def test_the_ratio_is_taken_pair_by_pair_over_all_starts() -> None:
    [row] = ratios([measurements([100, 200], [90, 160]), measurements([400], [400])])
    assert row["ratio"] == {"median": 0.9, "lowest": 0.8, "highest": 1.0, "rounds": [0.9, 0.8, 1.0]}
    assert (row["base_us"]["median"], row["head_us"]["median"]) == (200, 160)
    assert "0.900 (0.800-1.000)  0.90 0.80 1.00" in "\n".join(table([row]))


def test_what_only_one_of_them_answered_has_no_ratio() -> None:
    found = measurements([100, 200], [90])
    assert list(ratios([found])) == []


def test_pairs_are_shared_among_the_starts() -> None:
    options, starts = options_of(parser().parse_args(["HEAD", "--pairs", "7", "--starts", "2"]))
    assert (options.rounds, starts) == (4, 2)
    options, starts = options_of(parser().parse_args(["HEAD", "--pairs", "1", "--starts", "5"]))
    assert (options.rounds, starts) == (1, 1)


@pytest.mark.skipif(headgate.absence() is not None, reason=str(headgate.absence()))
def test_a_tree_that_imports_anothers_packages_is_refused(tmp_path: Path) -> None:
    assert_own_sources(all_on(HEAD))
    elsewhere = replace(all_on(BASE), directory=tmp_path)
    with pytest.raises(NotComparable, match="is not in"):
        assert_own_sources(elsewhere)


@pytest.mark.skipif(not in_a_repository(), reason="there is no git repository here")
def test_the_worktree_of_a_commit_is_removed_even_where_the_run_fails(tmp_path: Path) -> None:
    def tree_that_fails() -> None:
        with worktree("HEAD", tmp_path) as tree:
            assert (tree / "gateway_core").is_dir()
            assert_own_sources(all_on(BASE, tree=tree))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        tree_that_fails()
    assert not (tmp_path / "tree").exists()
    listed = subprocess.run(["git", "worktree", "list"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert str(tmp_path) not in listed.stdout


@pytest.mark.skipif(not in_a_repository(), reason="there is no git repository here")
def test_a_commit_that_does_not_exist_is_refused_in_a_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.compare", "no-such-commit", "--json", str(tmp_path / "compare.json")]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert run.stderr.startswith("bench.compare: git worktree:")
    assert not (tmp_path / "compare.json").exists()


@pytest.mark.skipif(headgate.absence() is not None, reason=str(headgate.absence()))
@pytest.mark.skipif(not in_a_repository(), reason="there is no git repository here")
def test_a_quick_comparison_has_both_trees_answer(tmp_path: Path) -> None:
    target = tmp_path / "compare.json"
    command = [
        sys.executable,
        "-m",
        "bench.compare",
        "HEAD",
        "--quick",
        "--scenario",
        UNARY.name,
        "--json",
        str(target),
    ]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    [row] = json.loads(target.read_text())["rows"]
    assert len(row["ratio"]["rounds"]) == 1
