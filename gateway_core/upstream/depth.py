"""How deep JSON may nest: what is read deeper than it can be written again would fail as a fault of ours."""

from collections.abc import Iterable
from typing import Any

import orjson

DEEPEST = 200
"""Arrays and objects inside each other. What writes JSON here gives up at 254, what reads it at 1,024."""

SHORT = 2 * DEEPEST
"""Characters, or bytes, of a text that is too short to nest deeper."""


def is_within(text: str | bytes, value: Any) -> bool:
    """Whether arrays and objects nest at most DEEPEST deep in a value, read from a JSON text."""
    # Most texts are short, or open too few brackets, those in strings included.
    if len(text) <= SHORT or opened(text) <= DEEPEST:
        return True
    level = containers([value])
    for _ in range(DEEPEST):
        level = containers(child for node in level for child in (node.values() if type(node) is dict else node))
        if not level:
            return True
    return False


def value_within(text: str | bytes) -> Any:
    """A value read from JSON text; raises ValueError where it is none, or nests deeper than DEEPEST."""
    value = orjson.loads(text)
    if not is_within(text, value):
        raise ValueError(f"it nests deeper than {DEEPEST} arrays and objects")
    return value


def containers(values: Iterable[Any]) -> list[Any]:
    """The arrays and objects among some values."""
    return [value for value in values if type(value) is dict or type(value) is list]


def opened(text: str | bytes) -> int:
    """How many brackets a text opens."""
    return text.count("{") + text.count("[") if isinstance(text, str) else text.count(b"{") + text.count(b"[")
