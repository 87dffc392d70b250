import os
import subprocess
import sys
from pathlib import Path

import pytest

from headgate_cli.__main__ import status
from tests.headgate_cli.program import environment

COMMANDS = ("serve", "chat", "models", "doctor", "version")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: headgate {command}")
    assert command == "version" or "Examples:\n" in text


def test_the_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert status(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {command} " in text for command in COMMANDS)


def test_without_a_command_the_help_is_shown_and_the_use_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert status([]) == 2
    text = capsys.readouterr().out
    assert all(f"\n  {command} " in text for command in COMMANDS)


@pytest.mark.parametrize("asked", ["version", "--version"])
def test_the_version_is_printed(capsys: pytest.CaptureFixture[str], asked: str) -> None:
    assert status([asked]) == 0
    assert capsys.readouterr().out.startswith("headgate ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["sreve"],
        ["serve", "everything"],
        ["serve", "--port", "1"],
        ["serve", "bridge", "--grpc", "127.0.0.1:0"],
        ["serve", "--core", "127.0.0.1:0"],
        ["serve", "--http", "8080"],
        ["serve", "--http", "127.0.0.1:http"],
        ["serve", "--grpc", "127.0.0.1:70000"],
        ["models", "--url", "http://127.0.0.1:9", "--grpc", "127.0.0.1:9"],
    ],
    ids=" ".join,
)
def test_wrong_use_is_one_line_and_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADGATE_DATA", str(tmp_path))
    assert status(arguments) == 2
    written = capsys.readouterr()
    assert written.out == ""
    (line,) = written.err.splitlines()
    assert line.startswith("headgate: ")


def test_every_problem_of_a_configuration_is_one_line_with_its_place(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "headgate.yaml"
    file.write_text("listen: {http: nowhere}\nproviders:\n  lab: {kind: openai}\nmodles: {}\n")
    assert status(["serve", "--config", str(file)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in lines] == [f"{file}:1", f"{file}:3", f"{file}:4"]


def test_a_missing_configuration_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert status(["serve", "--config", str(tmp_path / "none.yaml")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"headgate: {tmp_path}/none.yaml: cannot be read: No such file or directory"


def test_an_unexpected_error_is_one_line_and_a_traceback_where_it_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("in two\nlines")

    monkeypatch.setattr("headgate_cli.commands.version_text", broken)
    assert status(["version"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "headgate: ZeroDivisionError: in two lines (HEADGATE_DEBUG=1 shows where)"
    monkeypatch.setenv("HEADGATE_DEBUG", "1")
    assert status(["version"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["version"], ["--help"], ["serve", "--help"]], ids=" ".join)
def test_what_needs_no_server_loads_none(arguments: list[str], tmp_path: Path) -> None:
    script = (
        "import sys; from headgate_cli.__main__ import status; "
        f"code = status({arguments!r}); heavy = {{'grpc', 'uvicorn', 'httpx', 'aiohttp'}} & set(sys.modules); "
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        [sys.executable, "-m", "headgate_cli", "--help"],
        cwd=tmp_path, env=environment(tmp_path), stdout=writer, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(writer)
    assert result.stderr == ""
