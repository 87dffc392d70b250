"""Writes the Python code of the contract beside its proto files; with --check only says whether it is current."""

import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from google.api import annotations_pb2
from grpc_tools import protoc


def generate(root: Path, out: Path) -> None:
    """Runs protoc over every proto file below root and writes *_pb2.py, *_pb2.pyi and *_pb2_grpc.py(i) into out."""
    sources = sorted(str(path.relative_to(root)) for path in root.glob("headgate/**/*.proto"))
    services = [source for source in sources if source.endswith("_service.proto")]
    includes = [f"-I{root}", f"-I{files('grpc_tools') / '_proto'}", f"-I{Path(annotations_pb2.__file__).parents[2]}"]
    run(["protoc", *includes, f"--python_out={out}", f"--pyi_out={out}", *sources])
    stubs = f"--plugin=protoc-gen-mypy_grpc={Path(sys.executable).with_name('protoc-gen-mypy_grpc')}"
    run(["protoc", *includes, stubs, f"--grpc_python_out={out}", f"--mypy_grpc_out={out}", *services])


def run(command: list[str]) -> None:
    """Runs protoc, and ends the program where it fails."""
    if protoc.main(command) != 0:
        sys.exit("protoc failed")


def is_current(root: Path) -> bool:
    """Whether the committed code is what protoc writes now."""
    with tempfile.TemporaryDirectory() as scratch:
        generate(root, Path(scratch))
        new = {path.relative_to(scratch): path.read_bytes() for path in Path(scratch).rglob("*_pb2*")}
    old = {
        path.relative_to(root): path.read_bytes() for path in root.rglob("*_pb2*.py*") if path.suffix in {".py", ".pyi"}
    }
    stale = sorted(str(name) for name in new.keys() | old.keys() if new.get(name) != old.get(name))
    for name in stale:
        print(f"not current: {name} (make generate)", file=sys.stderr)
    return not stale


if __name__ == "__main__":
    root = Path(sys.argv[-1])
    if "--check" in sys.argv:
        sys.exit(not is_current(root))
    generate(root, root)
