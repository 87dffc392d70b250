"""The rules of the house that no other tool sees."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("gateway_core", "rest_bridge", "headgate_cli")
GENERATED = re.compile(r"_pb2(_grpc)?\.pyi?$")
LINES_AT_MOST = 500
FUNCTION_LINES_AT_MOST = 42
FORBIDDEN_NAMES = {"utils", "helpers", "common", "misc", "manager", "handler", "base"}


def tracked(*suffixes: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    names = listed.stdout.splitlines() if listed.returncode == 0 else [str(p.relative_to(ROOT)) for p in walk()]
    return [ROOT / name for name in names if name.endswith(suffixes) and (ROOT / name).is_file()]


def walk() -> Iterator[Path]:
    for top in (*PACKAGES, "tests", "bench", "proto", "requirements"):
        yield from (path for path in (ROOT / top).rglob("*") if path.is_file())


def sources() -> list[Path]:
    return [path for path in tracked(".py") if not GENERATED.search(path.name)]


def package_sources() -> list[Path]:
    return [path for path in sources() if path.relative_to(ROOT).parts[0] in PACKAGES]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", sources(), ids=name)
def test_a_file_is_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LINES_AT_MOST


@pytest.mark.parametrize("path", package_sources(), ids=name)
def test_a_module_says_in_one_sentence_what_it_is_for(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":"))


@pytest.mark.parametrize("path", package_sources(), ids=name)
def test_a_function_is_small(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = [node.name for node in functions if (node.end_lineno or 0) - node.lineno >= FUNCTION_LINES_AT_MOST]
    assert not long


@pytest.mark.parametrize("path", package_sources(), ids=name)
def test_a_name_says_something(path: Path) -> None:
    assert path.stem not in FORBIDDEN_NAMES
    assert path.parent.name not in FORBIDDEN_NAMES


@pytest.mark.parametrize("path", package_sources(), ids=name)
def test_nothing_is_imported_inside_a_function(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = [
        node.lineno
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert not inside


@pytest.mark.parametrize(
    ("folder", "member"), [("gateway_core/providers", "Provider"), ("gateway_core/pipeline", "Stage")]
)
def test_a_folder_of_siblings_is_its_own_registry(folder: str, member: str) -> None:
    files = [path for path in (ROOT / folder).glob("*.py") if path.name != "__init__.py"]
    assert files
    for path in files:
        classes = {
            node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)
        }
        assert member in classes, path


def test_every_dialect_has_a_table_of_contents() -> None:
    folders = [path for path in (ROOT / "rest_bridge/dialects").iterdir() if (path / "__init__.py").exists()]
    assert folders
    for folder in folders:
        tree = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
        assert "routes" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, folder


def test_the_changelog_begins_with_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    versions = re.findall(r"^## \[?([0-9][^\]\s]*)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert versions[0] == version


def test_the_readme_draws_the_tree_as_it_is() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    drawn = set(re.findall(r"^([a-z_]+)/ ", text, re.M))
    there = {path.relative_to(ROOT).parts[0] for path in tracked("") if len(path.relative_to(ROOT).parts) > 1}
    assert {folder for folder in there if not folder.startswith(".")} == drawn


@pytest.mark.parametrize("path", sorted((ROOT / "requirements").glob("*.txt")), ids=name)
def test_a_lock_file_pins_hashes_and_names_no_index(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text
    blocks = re.findall(r"^[a-z0-9].*?(?=^[a-z0-9]|\Z)", text, re.M | re.S)
    assert blocks
    assert all("==" in block and "--hash=sha256:" in block for block in blocks)
