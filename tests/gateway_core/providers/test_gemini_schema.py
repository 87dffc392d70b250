from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.providers.gemini.schema import AS_THEY_ARE, INNER, REWRITES, WITHOUT_MEANING, cleaned, parameters

NAMES = sorted({*AS_THEY_ARE, *INNER, *REWRITES, *WITHOUT_MEANING, "allOf", "not", "pattern", "if", "uniqueItems"})
scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["string", "integer", "#/definitions/A"])
schemas: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


def keywords(schema: Any) -> set[str]:
    """All keywords of a schema and of those in it."""
    found = set(schema)
    for name in ("items", "additionalProperties"):
        if type(schema.get(name)) is dict:
            found |= keywords(schema[name])
    for name in ("prefixItems", "anyOf", "oneOf"):
        found = found.union(*map(keywords, schema.get(name, ())))
    for name in ("properties", "$defs"):
        found = found.union(*map(keywords, schema.get(name, {}).values()))
    return found


@given(st.dictionaries(st.sampled_from(NAMES), schemas, max_size=5))
def test_any_schema_is_cleaned_to_what_is_taken(schema: dict[str, Any]) -> None:
    dropped: set[str] = set()
    written = cleaned(schema, dropped)
    assert keywords(written) <= AS_THEY_ARE | INNER.keys()
    assert cleaned(written, set()) == written


@pytest.mark.parametrize(
    ("schema", "written", "dropped"),
    [
        ({"type": "string", "minLength": 1}, {"type": "string"}, {"minLength"}),
        ({"const": 5}, {"enum": [5], "type": "number"}, set()),
        ({"const": None}, {"type": "null"}, set()),
        ({"const": True}, {}, {"enum"}),
        ({"enum": ["a", None]}, {"anyOf": [{"enum": ["a"], "type": "string"}, {"type": "null"}]}, set()),
        ({"type": "integer", "minimum": 3, "exclusiveMinimum": True}, {"type": "integer", "minimum": 4}, set()),
        ({"type": "number", "exclusiveMaximum": 3}, {"type": "number", "maximum": 3}, {"exclusiveMaximum"}),
        ({"allOf": [{"minimum": 1}, {"minimum": 2}]}, {"minimum": 1}, {"allOf"}),
        ({"allOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}]}, {"anyOf": [{"$ref": "#/$defs/A"}]}, {"allOf"}),
        ({"$ref": "#/definitions/A", "$defs": {}}, {"$defs": {}, "$ref": "#/$defs/A"}, set()),
        ({"properties": {"a": False}}, {"properties": {"a": {}}}, {"false"}),
        ({"$schema": "x", "default": 1, "examples": [1]}, {}, set()),
    ],
)
def test_what_gemini_has_other_words_for_is_said_in_those(
    schema: dict[str, Any], written: dict[str, Any], dropped: set[str]
) -> None:
    found: set[str] = set()
    assert cleaned(schema, found) == written
    assert found == dropped


@pytest.mark.parametrize("schema", [{}, {"type": "object"}, {"type": "object", "properties": {}, "required": []}])
def test_a_function_without_arguments_has_no_schema(schema: dict[str, Any]) -> None:
    assert parameters(schema, set()) is None
