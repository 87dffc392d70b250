"""JSON Schemas of answers, put in the form that Anthropic takes: what it would refuse is said in the description.

Source: https://platform.claude.com/docs/en/build-with-claude/structured-outputs (JSON Schema limitations).
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


def clean_schema(schema: Any) -> Any:
    """A schema that is taken: closed objects, and the other limits in words."""
    if not isinstance(schema, dict):
        return schema
    found: dict[str, Any] = {}
    unsaid: dict[str, Any] = {}
    for name, value in schema.items():
        if name in BY_NAME and isinstance(value, dict):
            found[name] = {key: clean_schema(inner) for key, inner in value.items()}
        elif name in LISTS and isinstance(value, list):
            found[LISTS[name]] = [clean_schema(inner) for inner in value]
        elif name == "items" and isinstance(value, dict):
            found[name] = clean_schema(value)
        elif is_kept(name, value):
            found[name] = value
        elif name not in UNSAID:
            unsaid[name] = value
    if has_type(schema, "object") or "properties" in schema:
        found["additionalProperties"] = False
    if unsaid:
        said = orjson.dumps(unsaid).decode()
        described = found.get("description")
        found["description"] = f"{described}\n\n{said}" if described else said
    return found


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
