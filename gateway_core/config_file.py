"""Reads the one config file: YAML, `${NAME}` from the environment, and errors that tell the line."""

import difflib
import re
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gateway_core.config import Config, MissingReference
from gateway_core.known.hosts import from_environment

# A value in a flow mapping cannot hold braces, so that `{api_key: ${LAB_KEY}}` is not YAML. Each ${…} is therefore
# replaced by a mark of two private-use characters before the file is parsed, and by its value in the parsed text, where
# no value can change the structure of the file.
VARIABLE = re.compile(r"\$\$(?=\{)|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}\n]*))?\}")
MARK = re.compile("\ue000([0-9]+)\ue001")

FRONT = frozenset(
    {"listen", "tls", "limits", "cors", "ping_seconds", "envoy", "envoy_services", "storage", "authentication"}
)
"""The uppermost keys that a proxy in front has to know, and those that say whether its callers need keys."""

Path_ = tuple[Hashable, ...]


class ConfigError(Exception):
    """What is wrong with the configuration: one line for each problem, with the file and the line."""

    def __init__(self, problems: list[str]) -> None:
        """Takes the problems."""
        super().__init__("\n".join(problems))
        self.problems = problems


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """The configuration in a file; raises ConfigError."""
    return parse(read(path), str(path), environ)


def read(path: Path) -> str:
    """The text of a file; raises ConfigError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: is not UTF-8"]) from None


def parse(text: str, name: str, environ: Mapping[str, str]) -> Config:
    """The configuration in a text; the name stands for the file in errors."""
    document = _Document(text, name, environ)
    try:
        return Config.model_validate(with_known_hosts(document.data, environ))
    except ValidationError as error:
        raise ConfigError([document.problem(detail) for detail in error.errors()]) from None


def load_part(path: Path, environ: Mapping[str, str], keys: frozenset[str]) -> Config:
    """The configuration as some of its uppermost keys say, whatever the others do; raises ConfigError.

    The variables that only others name need not be there.
    """
    document = _Document(read(path), str(path), environ, keys)
    data = document.data
    try:
        return Config.model_validate({key: data[key] for key in keys & data.keys()} if isinstance(data, dict) else data)
    except ValidationError as error:
        raise ConfigError([document.problem(detail) for detail in error.errors()]) from None


def load_front(path: Path, environ: Mapping[str, str]) -> Config:
    """The configuration as far as a proxy in front has to know it; raises ConfigError.

    Of providers it has the timeouts alone. So the secrets of the others need not be where it is read.
    """
    document = _Document(read(path), str(path), environ, FRONT)
    data = document.data
    if isinstance(data, dict):
        data = {key: data[key] for key in data if key in FRONT or key not in Config.model_fields or key == "providers"}
        rows = data.get("providers")
        if isinstance(rows, dict):
            timeouts = {
                name: row["timeouts"] for name, row in rows.items() if isinstance(row, dict) and "timeouts" in row
            }
            data["providers"] = {name: {"kind": "echo", "timeouts": value} for name, value in timeouts.items()}
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError([document.problem(detail) for detail in error.errors()]) from None


def with_known_hosts(data: Any, environ: Mapping[str, str]) -> Any:
    """What a file says, with the keys and addresses that the environment has for providers which name a known host."""
    rows = data.get("providers") if isinstance(data, dict) else None
    if isinstance(rows, dict):
        for row in rows.values():
            if isinstance(row, dict):
                row.update(from_environment(row, environ))
    return data


class _Document:
    """A parsed file, and the line of each of its values."""

    def __init__(self, text: str, name: str, environ: Mapping[str, str], needed: frozenset[str] | None = None) -> None:
        self.name = name
        self.needed = needed
        self.lines: dict[Path_, int] = {(): 1}
        self.values: list[tuple[str, str | None]] = []
        self.environ = environ
        try:
            loader = yaml.SafeLoader(VARIABLE.sub(self._mark, text))
            node = loader.get_single_node()
            self.data = {} if node is None else self._value(loader, node, ())
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise ConfigError([f"{name}:{line}: is not YAML: {error.problem}"]) from None
        except yaml.YAMLError as error:
            raise ConfigError([f"{name}: is not YAML: {str(error).splitlines()[0]}"]) from None

    def _mark(self, match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        self.values.append((match[1], match[2]))
        return f"\ue000{len(self.values) - 1}\ue001"

    def _value(self, loader: yaml.SafeLoader, node: yaml.Node, path: Path_) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return dict(self._items(loader, node, path))
        if isinstance(node, yaml.SequenceNode):
            return [self._value(loader, item, (*path, index)) for index, item in enumerate(node.value)]
        value = loader.construct_object(node, deep=True)
        return self._expanded(value, path) if isinstance(value, str) else value

    def _items(self, loader: yaml.SafeLoader, node: yaml.MappingNode, path: Path_) -> Iterator[tuple[Hashable, Any]]:
        seen: dict[Hashable, int] = {}
        for key_node, value_node in node.value:
            key = self._value(loader, key_node, (*path, None))
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                key = str(key_node.value)
            if key in seen:
                raise ConfigError(
                    [f"{self.name}:{line}: {dotted((*path, key))}: stands twice (first in line {seen[key]})"]
                )
            seen[key] = line
            self.lines[(*path, key)] = line
            yield key, self._value(loader, value_node, (*path, key))

    def _expanded(self, value: str, path: Path_) -> str:
        def replacement(match: re.Match[str]) -> str:
            name, default = self.values[int(match[1])]
            found = self.environ.get(name, default)
            if found is None and self.needed is not None and self.needed.isdisjoint(path[:1]):
                return ""
            if found is None:
                line = self.lines[path]
                raise ConfigError([f"{self.name}:{line}: {dotted(path)}: the environment variable {name} is not set"])
            return found

        return MARK.sub(replacement, value)

    def problem(self, detail: ErrorDetails) -> str:
        """One line about one of pydantic's findings."""
        path: Path_ = detail["loc"]
        message = plain(detail)
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, MissingReference):
            path = cause.path
        if detail["type"] == "extra_forbidden":
            message = f"there is no such key{self._suggestion(path)}"
        elif detail["type"] == "missing":
            message = "is required"
        while path not in self.lines:
            path = path[:-1]
        where = dotted(path if detail["type"] != "missing" else detail["loc"])
        return f"{self.name}:{self.lines[path]}: {where + ': ' if where else ''}{message}"

    def _suggestion(self, path: Path_) -> str:
        known = list(keys_at(Config, path[:-1]))
        close = difflib.get_close_matches(str(path[-1]), known, 1)
        if close:
            return f"; is it {close[0]!r}?"
        return f"; there are {', '.join(known)}" if known else ""


PHRASES = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("decimal_type", "decimal_parsing", "float_type", "float_parsing"), "must be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    **dict.fromkeys(("tuple_type", "list_type", "set_type", "frozen_set_type"), "must be a list"),
    **dict.fromkeys(("model_type", "dict_type"), "must be a mapping of keys to values"),
    "string_type": "must be a text",
    "int_parsing_size": "is too large a number",
    "finite_number": "must be a finite number",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "greater_than": "must be above {gt}",
    "less_than": "must be below {lt}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length}",
    "too_long": "must have at most {max_length}",
}
"""What pydantic's findings are called, by their types."""


def plain(detail: ErrorDetails) -> str:
    """What one of pydantic's findings says, in the words of this program: "must be at least 1"."""
    phrase = PHRASES.get(detail["type"])
    if phrase is not None:
        return phrase.format(**detail.get("ctx", {}))
    return re.sub(r"^[A-Z]\w+ should ", "must ", detail["msg"].removeprefix("Value error, "))


def keys_at(model: type[BaseModel], path: Path_) -> Iterator[str]:
    """The names of the keys that the configuration knows at a path."""
    current: Any = model
    for step in path:
        field = current.model_fields.get(step) if is_model(current) else None
        if field is not None:
            current = inner_model(field.annotation) or field.annotation
    if is_model(current):
        yield from current.model_fields


def is_model(annotation: Any) -> bool:
    """Whether a type annotation is a part of the configuration."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def inner_model(annotation: Any) -> type[BaseModel] | None:
    """The part of the configuration inside dict[str, X], tuple[X, ...] or X | None."""
    if is_model(annotation):
        found: type[BaseModel] = annotation
        return found
    for argument in getattr(annotation, "__args__", ()):
        inner = inner_model(argument)
        if inner is not None:
            return inner
    return None


def dotted(path: Path_) -> str:
    """A path as people write it: models.small.targets[0].provider."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text
