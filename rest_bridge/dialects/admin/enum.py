"""Enum values as the administrative API writes them: in lower case, without the name of their enum."""

import re

from google.protobuf.descriptor import EnumDescriptor, EnumValueDescriptor


def prefix(enum: EnumDescriptor) -> str:
    """What the names of the values begin with: "KEY_KIND_" for KeyKind."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"


def short_name(value: EnumValueDescriptor) -> str:
    """A value's name as it is printed: "private"."""
    return str(value.name).removeprefix(prefix(value.type)).lower()


def short_names(enum: EnumDescriptor) -> list[str]:
    """Every value's name as it is printed, the unspecified one's first."""
    return [short_name(value) for value in enum.values]


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
