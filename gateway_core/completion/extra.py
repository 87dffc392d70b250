"""The unknown fields of an answer's chunks, folded."""

from collections.abc import Iterable
from typing import Any

import orjson

# Fields of chunks that no whole answer has: padding against side channels.
OF_CHUNKS_ONLY = frozenset({"obfuscation"})


def folded_extra(texts: Iterable[str], *, join_strings: bool = False) -> str:
    """Unknown fields of several pieces, as JSON text."""
    given = [text for text in texts if text]
    if len(given) < 2:
        return "".join(given)
    extra: dict[str, Any] = {}
    for text in given:
        merge(extra, orjson.loads(text), join_strings=join_strings)
    return extra_json(extra)


def of_answers(extra: dict[str, Any]) -> dict[str, Any]:
    """The unknown fields of chunks that whole answers have too."""
    return {name: value for name, value in extra.items() if name not in OF_CHUNKS_ONLY}


def merge(into: dict[str, Any], added: dict[str, Any], *, join_strings: bool = False) -> None:
    """Adds the unknown fields of a later piece to those of earlier ones."""
    for name, value in added.items():
        known = into.get(name)
        if isinstance(known, dict) and isinstance(value, dict):
            merge(known, value, join_strings=join_strings)
        elif join_strings and isinstance(known, str) and isinstance(value, str):
            into[name] = known + value
        elif value is not None or name not in into:
            into[name] = value


def extra_json(extra: dict[str, Any]) -> str:
    """Unknown fields as JSON text; empty where there are none."""
    return orjson.dumps(extra).decode() if extra else ""
