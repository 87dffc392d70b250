"""JSON Schemas of answers and strict tools, in the form that Anthropic takes.

Source: https://platform.claude.com/docs/en/build-with-claude/structured-outputs (JSON Schema limitations).
"""

from typing import Any

from gateway_core.providers.anthropic.carried import Carried
from gateway_core.upstream.closed_schema import clean_schema


def told_schema(schema: Any, carried: Carried, path: str) -> Any:
    """A schema that is taken; tells what keywords it does without."""
    changed: set[str] = set()
    found = clean_schema(schema, changed)
    if changed:
        carried.change(path, f"changed, the provider does not hold answers to {', '.join(sorted(changed))}")
    return found
