"""JSON Schemas become what Gemini takes of them: said in other words where there are some, and else left out.

Source: responseJsonSchema in https://ai.google.dev/api/generate-content#generationconfig, which names the keywords;
parametersJsonSchema of a function is read in the same way.
"""

from collections.abc import Callable, Iterable
from typing import Any

Document = dict[str, Any]
Dropped = set[str]

AS_THEY_ARE = frozenset(
    {
        "$id", "$anchor", "$ref", "type", "format", "title", "description", "enum", "minItems", "maxItems", "minimum",
        "maximum", "required", "propertyOrdering",
    }
)  # fmt: skip

WITHOUT_MEANING = frozenset({"$schema", "$comment", "$vocabulary", "examples", "example", "default", "deprecated"})
"""What says nothing of the values: left out without a word."""

NOTHING = frozenset({"type", "properties", "required", "additionalProperties", "title", "description", "$defs"})
"""What the schema of a function without arguments may have."""


def cleaned(schema: Any, dropped: Dropped) -> Document:
    """A schema of nothing but what Gemini takes; adds to `dropped` the keywords that are not obeyed any more."""
    if type(schema) is not dict:
        # `true` allows everything, as an empty schema does.
        if schema is not True:
            dropped.add("false")
        return {}
    kept: Document = {}
    for name, value in said_otherwise(schema, dropped).items():
        if name in AS_THEY_ARE:
            kept[name] = value
        elif (inner := INNER.get(name)) is not None:
            written = inner(value, dropped)
            if written is None:
                dropped.add(name)
            else:
                kept[name] = written
        elif name not in WITHOUT_MEANING:
            dropped.add(name)
    return with_bare_references(kept, dropped)


def parameters(schema: Document, dropped: Dropped) -> Document | None:
    """The schema of a function's arguments; None where it has none."""
    written = cleaned(schema, dropped)
    if not written.get("properties") and not written.keys() - NOTHING:
        return None
    return {"type": "object", **written} if "anyOf" not in written and "$ref" not in written else written


def said_otherwise(schema: Document, dropped: Dropped) -> Document:
    """A schema in the words that Gemini takes."""
    said = joined(schema, dropped)
    for name, rewrite in REWRITES.items():
        if name in said:
            rewrite(said, said.pop(name), dropped)
    return said


def joined(schema: Document, dropped: Dropped) -> Document:
    """A copy without allOf: its members are parts of the schema, and a reference among them its only alternative."""
    said = dict(schema)
    members = said.pop("allOf", None)
    if members is None:
        return said
    if type(members) is not list:
        dropped.add("allOf")
        return said
    for member in members:
        if type(member) is not dict:
            continue
        if "$ref" in member:
            if "anyOf" in said:
                dropped.add("allOf")
            said.setdefault("anyOf", [member])
            continue
        for name, value in joined(member, dropped).items():
            add_member(said, name, value, dropped)
    return said


def add_member(said: Document, name: str, value: Any, dropped: Dropped) -> None:
    """Adds a keyword of one member of allOf to the schema."""
    known = said.get(name)
    if type(known) is dict and type(value) is dict:
        said[name] = {**known, **value}
    elif name == "required" and type(known) is list and type(value) is list:
        said[name] = [*known, *(item for item in value if item not in known)]
    elif known is None:
        said[name] = value
    elif known != value:
        dropped.add("allOf")


def with_bare_references(kept: Document, dropped: Dropped) -> Document:
    """Puts a reference beside other keywords, which Gemini refuses, into an alternative of its own."""
    if "$ref" in kept and any(not name.startswith("$") for name in kept):
        reference = kept.pop("$ref")
        if "anyOf" in kept:
            dropped.add("$ref")
        else:
            kept["anyOf"] = [{"$ref": reference}]
    return kept


def named(value: Any, dropped: Dropped) -> Document | None:
    """Schemas by name."""
    return {name: cleaned(item, dropped) for name, item in value.items()} if type(value) is dict else None


def listed(value: Any, dropped: Dropped) -> list[Document] | None:
    """Schemas in a list."""
    return [cleaned(item, dropped) for item in value] if type(value) is list else None


def additional(value: Any, dropped: Dropped) -> Any:
    """Whether there may be other properties, or which."""
    return value if type(value) is bool else cleaned(value, dropped)


INNER: dict[str, Callable[[Any, Dropped], Any]] = {
    "$defs": named,
    "properties": named,
    "items": cleaned,
    "prefixItems": listed,
    "anyOf": listed,
    "oneOf": listed,
    "additionalProperties": additional,
}


def definitions(said: Document, value: Any, dropped: Dropped) -> None:
    """The older place of definitions."""
    known = said.get("$defs")
    if type(value) is dict:
        said["$defs"] = {**value, **known} if type(known) is dict else value


def reference(said: Document, value: Any, dropped: Dropped) -> None:
    """A reference to the older place of definitions."""
    if type(value) is str:
        said["$ref"] = value.replace("#/definitions/", "#/$defs/", 1)


def tuple_items(said: Document, value: Any, dropped: Dropped) -> None:
    """Items one by one, in the older spelling; items of any kind."""
    if type(value) is list:
        said["prefixItems"] = value
    elif value is not True:
        said["items"] = value


def constant(said: Document, value: Any, dropped: Dropped) -> None:
    """The only value."""
    choices(said, [value], dropped)


def choices(said: Document, value: Any, dropped: Dropped) -> None:
    """The values: Gemini takes strings and numbers, and null as a type."""
    if type(value) is not list:
        dropped.add("enum")
        return
    kept = [item for item in value if type(item) in (str, int, float)]
    if any(type(item) not in (str, int, float) and item is not None for item in value):
        dropped.add("enum")
    if kept and None in value and "anyOf" not in said:
        said["anyOf"] = [{"enum": kept}, {"type": "null"}]
        said.pop("type", None)
    elif kept:
        said["enum"] = kept
        said.setdefault("type", "string" if all(type(item) is str for item in kept) else "number")
    elif value == [None]:
        said["type"] = "null"


def nullable(said: Document, value: Any, dropped: Dropped) -> None:
    """OpenAPI's word for a value that may be null."""
    if value is not True:
        return
    if type(known := said.get("enum")) is list:
        said["enum"] = [*known, None]
    kinds = said.get("type")
    if type(kinds) is str:
        kinds = [kinds]
    if type(kinds) is list and "null" not in kinds:
        said["type"] = [*kinds, "null"]


def bound(name: str, step: int) -> Callable[[Document, Any, Dropped], None]:
    """A bound that is not within itself: for whole numbers the next one is, for others it is let in."""

    def rewrite(said: Document, value: Any, dropped: Dropped) -> None:
        if value is False:
            return
        limit = said.get(name) if value is True else value
        if type(limit) is int and said.get("type") == "integer":
            said[name] = limit + step
            return
        dropped.add(f"exclusive{name.capitalize()}")
        if type(limit) in (int, float):
            said.setdefault(name, limit)

    return rewrite


REWRITES: dict[str, Callable[[Document, Any, Dropped], None]] = {
    "definitions": definitions,
    "$ref": reference,
    "items": tuple_items,
    "nullable": nullable,
    "enum": choices,
    "const": constant,
    "exclusiveMinimum": bound("minimum", 1),
    "exclusiveMaximum": bound("maximum", -1),
}


def sentence(dropped: Iterable[str]) -> str:
    """What a warning says of keywords that were left out."""
    return f"left out of the schema, which is not held to it: {', '.join(sorted(dropped))}"
