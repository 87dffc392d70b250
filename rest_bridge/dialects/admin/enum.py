"""Enum values as the administrative API writes them: in lower case, without the name of their enum."""

import pkgutil
import re
from functools import cache
from importlib import import_module

import headgate.v1
from google.protobuf.descriptor import EnumDescriptor, EnumValueDescriptor

FULL_NAME = re.compile(r"\b[A-Z]+(?:_[A-Z0-9]+)+\b")


def prefix(enum: EnumDescriptor) -> str:
    """What the names of the values begin with: "KEY_KIND_" for KeyKind."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"


def short_name(value: EnumValueDescriptor) -> str:
    """A value's name as it is printed: "private"."""
    return str(value.name).removeprefix(prefix(value.type)).lower()


def short_names(enum: EnumDescriptor) -> list[str]:
    """Every value's name as it is printed, the unspecified one's first."""
    return [short_name(value) for value in enum.values]


def in_words(text: str) -> str:
    """A sentence of the core's with the values that it names as they are printed: "must be 'system'"."""
    names = _names()
    return FULL_NAME.sub(lambda found: f"'{names[found[0]]}'" if found[0] in names else found[0], text)


@cache
def _names() -> dict[str, str]:
    modules = pkgutil.iter_modules(headgate.v1.__path__)
    files = [import_module(f"headgate.v1.{each.name}").DESCRIPTOR for each in modules if each.name.endswith("_pb2")]
    enums = [each for file in files for each in file.enum_types_by_name.values()]
    return {str(value.name): short_name(value) for each in enums for value in each.values}


def number(enum: EnumDescriptor, name: str) -> int | None:
    """The number of a value that is named in lower case without the prefix, or in full; None where there is none."""
    found = enum.values_by_name.get(name)
    if found is None and name == name.lower():
        found = enum.values_by_name.get(prefix(enum) + name.upper())
    return None if found is None else found.number


def printed(enum: EnumDescriptor, value: int) -> str | int:
    """A value as it is printed; the number of one that this program does not know."""
    found = enum.values_by_number.get(value)
    return value if found is None else short_name(found)
