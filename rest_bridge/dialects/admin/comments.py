"""The comments of the contract, read from the proto files that lie beside their generated code."""

import re
from functools import cache
from pathlib import Path

import headgate.v1

# buf's format has one declaration a line, and its comment in the lines above.
PACKAGE = re.compile(r"package ([\w.]+);")
BLOCK = re.compile(r"(?:message|enum|service|rpc) (\w+)")
ONEOF = re.compile(r"oneof (\w+) \{")
FIELD = re.compile(r"(?:optional |repeated )?(?:map<[\w., ]+>|[\w.]+) (\w+) = \d+")
VALUE = re.compile(r"([A-Z][A-Z0-9_]*) = \d+")


@cache
def comments() -> dict[str, str]:
    """Comments by full name: of messages, fields, services, RPCs, enums and ("package.Enum.VALUE") their values."""
    found: dict[str, str] = {}
    for folder in headgate.v1.__path__:
        for path in sorted(Path(folder).glob("*.proto")):
            found.update(comments_of(path.read_text(encoding="utf-8")))
    return found


def comments_of(source: str) -> dict[str, str]:
    """The comments of one proto file in buf's format."""
    found: dict[str, str] = {}
    scopes: list[str] = []
    above: list[str] = []
    for line in map(str.strip, source.splitlines()):
        if line.startswith("//"):
            above.append(line[2:].strip())
            continue
        if package := PACKAGE.match(line):
            scopes.append(package[1])
        elif scopes:
            block = BLOCK.match(line)
            name = (
                block
                or ONEOF.match(line)
                or VALUE.match(line)
                or (None if line.startswith("option ") else FIELD.match(line))
            )
            if name and above:
                found[f"{scopes[-1]}.{name[1]}"] = " ".join(" ".join(above).split())
            inside = f"{scopes[-1]}.{block[1]}" if block else scopes[-1]
            scopes.extend([inside] * line.count("{"))
            del scopes[len(scopes) - line.count("}") :]
        above = []
    return found
