"""Where things lie: the data directory, and the configuration that is read."""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from gateway_core.config import Config
from gateway_core.config_file import VARIABLE, ConfigError, load, load_front, load_part
from gateway_core.known.hosts import known_hosts
from headgate_cli.errors import CommandFailed

CONFIG_NAME = "headgate.yaml"
STORAGE_KEYS = frozenset({"data_directory", "database_url"})


def data_directory(chosen: Path | None, environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """The directory for what is kept: the chosen one or the platform's. It need not exist."""
    if chosen is not None:
        return chosen
    home = Path(environ.get("HOME") or Path.home())
    if platform == "darwin":
        return home / "Library" / "Application Support" / "headgate"
    if platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "headgate"
    # XDG Base Directory Specification: a relative XDG_DATA_HOME is ignored.
    xdg = environ.get("XDG_DATA_HOME", "")
    return (Path(xdg) if xdg.startswith("/") else home / ".local" / "share") / "headgate"


def config_file(chosen: Path | None, data: Path | None) -> Path | None:
    """The configuration file to read: the chosen one, ./headgate.yaml, or the data directory's; None: there is none."""
    if chosen is not None:
        return chosen
    usual = (Path(CONFIG_NAME), data_directory(data) / CONFIG_NAME)
    return next((path for path in usual if path.is_file()), None)


def read_config(path: Path) -> Config:
    """The configuration in a file; raises CommandFailed with a line for each problem."""
    try:
        return load(path, os.environ)
    except ConfigError as error:
        raise CommandFailed(*error.problems) from None


def read_storage(path: Path) -> Config:
    """What a file says of where things are kept, and nothing else of it; raises CommandFailed."""
    try:
        return load_part(path, os.environ, STORAGE_KEYS)
    except ConfigError as error:
        raise CommandFailed(*error.problems) from None


def read_front(path: Path) -> Config:
    """What a file says that a proxy in front has to know; raises CommandFailed."""
    try:
        return load_front(path, os.environ)
    except ConfigError as error:
        raise CommandFailed(*error.problems) from None


def key_place(path: Path, provider: str) -> str:
    """Where the file has the key of a provider: "headgate.yaml:3, variable LAB_KEY"; where it would be, if it has none.

    Takes a file that could be read as a configuration.
    """
    # What config_file does too: a ${…} is no YAML where it stands in braces.
    text = VARIABLE.sub(lambda match: f"\ue000{match[1] or ''}\ue001", path.read_text(encoding="utf-8"))
    row = child(child(yaml.compose(text, Loader=yaml.SafeLoader), "providers"), provider)
    key = child(row, "api_key")
    found = key or row
    line = 1 if found is None else found.start_mark.line + 1
    if key is None:
        host = child(row, "host")
        known = next((known for known in known_hosts().hosts if host is not None and known.name == host.value), None)
        named = f"; {' or '.join(known.key_variables)} of the environment counts" if known else ""
        return f"{path}:{line}, where there is no api_key{named}"
    variables = re.findall("\ue000(.+?)\ue001", str(key.value))
    return f"{path}:{line}{', variable ' + ' and '.join(variables) if variables else ''}"


def placed(path: Path, problem: str) -> str:
    """A problem that begins with a dotted key, with the file and the line of what there is of that key."""
    text = VARIABLE.sub("variable", path.read_text(encoding="utf-8"))
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    line = 1
    for name in problem.partition(" ")[0].split("."):
        found = [pair for pair in node.value if pair[0].value == name] if isinstance(node, yaml.MappingNode) else []
        if not found:
            break
        line, node = found[0][0].start_mark.line + 1, found[0][1]
    return f"{path}:{line}: {problem}"


def child(node: yaml.Node | None, name: str) -> yaml.Node | None:
    """The value of a key in a YAML mapping."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for key, value in pairs if key.value == name), None)
