"""JSON Schemas for hosts that compile them into grammars: descriptions say what the grammar cannot.

Sources: https://platform.claude.com/docs/en/build-with-claude/structured-outputs (JSON Schema limitations), and
https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html, which has the same.
"""

from typing import Any

import orjson

KEPT = frozenset({"$ref", "type", "enum", "const", "description", "title", "default", "required"})
FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)  # fmt: skip
BY_NAME = frozenset({"properties", "$defs", "definitions"})
"""Keywords that hold schemas by name."""
LISTS = {"anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf"}
"""Keywords that hold lists of schemas, and the words for them."""
UNSAID = frozenset({"$schema", "$id", "$comment", "additionalProperties"})
"""What says nothing to a model, or is decided here."""


def clean_schema(schema: Any, changed: set[str]) -> Any:
    """A schema that is taken: closed objects, and the other limits in words. Adds the keywords that it does without."""
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Any] = {}
    unsaid: dict[str, Any] = {}
    for name, value in schema.items():
        inner = inner_schemas(name, value, changed)
        if inner is not None:
            found[str(LISTS.get(name, name))] = inner
        elif is_kept(name, value):
            found[name] = value
        elif name not in UNSAID:
            unsaid[name] = value
    if has_type(schema, "object") or "properties" in schema:
        found["additionalProperties"] = False
        if schema.get("additionalProperties", False) is not False:
            changed.add("additionalProperties")
    if unsaid:
        changed.update(unsaid)
        said = orjson.dumps(unsaid).decode()
        described = found.get("description")
        found["description"] = f"{described}\n\n{said}" if described else said
    return found


def inner_schemas(name: str, value: Any, changed: set[str]) -> Any:
    """What a keyword that holds schemas holds, cleaned; None for any other."""
    if name in BY_NAME and isinstance(value, dict):
        return {key: clean_schema(inner, changed) for key, inner in value.items()}
    if name in LISTS and isinstance(value, list):
        return [clean_schema(inner, changed) for inner in value]
    return clean_schema(value, changed) if name == "items" and isinstance(value, dict) else None


def is_kept(name: str, value: Any) -> bool:
    """Whether a keyword is taken as it is."""
    if name == "format":
        return isinstance(value, str) and value in FORMATS
    if name == "minItems":
        return value in (0, 1)
    return name in KEPT


def has_type(schema: dict[str, Any], name: str) -> bool:
    """Whether values of a schema may be of a type."""
    kind = schema.get("type")
    return kind == name or (isinstance(kind, list) and name in kind)
