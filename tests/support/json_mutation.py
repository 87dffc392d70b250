"""Documents that something was done to: a value replaced, left out, doubled, wrapped, written as text, put elsewhere."""

import json
from copy import deepcopy
from random import Random
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 0.5, -0.0, 1e308, "", "x", "\x00", "ü\u202e😀", "text",
    "assistant", "tool", "function", "json_schema", [], {}, [[]], [None], [{}], {"": None}, {"type": "text"},
    {"type": "function"}, {"extra_json": "{"}, {"name": "f"}, {"index": -1}, [1, "a", None, {}],
)  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """All items of arrays and entries of objects inside a value, each as its container and its key."""
    found: list[tuple[Any, Any]] = []
    level = [value]
    while level:
        node = level.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            found.append((node, key))
            level.append(node[key])
    return found


def mutate(document: Any, random: Random) -> None:
    """Changes one thing somewhere in a document."""
    found = places(document)
    if not found:
        return
    node, key = random.choice(found)
    value = node[key]
    match random.randrange(6):
        case 0:
            node[key] = deepcopy(random.choice(ODD))  # what is changed again later must not be what others get
        case 1:
            del node[key]
        case 2:
            node[key] = [value, value]
        case 3:
            node[key] = {"type": "text", "text": value}
        case 4:
            node[key] = str(value)
        case 5:
            other, place = random.choice(found)
            node[key] = json.loads(json.dumps(other[place])) if other is not node else value
