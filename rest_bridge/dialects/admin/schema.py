"""The messages of the contract as JSON Schema (2020-12): as they are told, as they are given, as they are changed."""

from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from rest_bridge.body import INT32, INT64
from rest_bridge.dialects.admin import enum
from rest_bridge.dialects.admin.behavior import is_input_only, is_output_only, is_required, is_setting
from rest_bridge.dialects.admin.bound import bounds
from rest_bridge.dialects.admin.comments import comments
from rest_bridge.dialects.admin.descriptor import enum_of, is_map, value_of_map

Schema = dict[str, Any]

TOLD, GIVEN, CHANGED, SET = "", "Input", "Change", "Settings"
"""What a schema's name ends with: a message of an answer, of a request, one of whose fields some are changed, and one
in an answer that tells what was given, without what is empty."""
ANSWERED = (TOLD, SET)

WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.FieldMask": {"type": "string"},
}
DURATION: Schema = {"type": "string", "pattern": r"^-?[0-9]{1,12}(\.[0-9]{1,9})?s$", "examples": ["3600s"]}
SECONDS: Schema = {"type": "integer", "minimum": -315_576_000_000, "maximum": 315_576_000_000}
PLAIN: dict[int, Schema] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32", "minimum": INT32[0], "maximum": INT32[1]},
}
# Beyond 2^53 an integer is a string, which readers of JSON do not round.
INTEGER64: Schema = {
    "type": ["integer", "string"],
    "format": "int64",
    "pattern": "^-?[0-9]{1,19}$",
    "minimum": INT64[0],
    "maximum": INT64[1],
}


class Schemas:
    """The schemas of a document, each under its name; those that others refer to come by themselves."""

    def __init__(self) -> None:
        """Begins without any."""
        self.by_name: dict[str, Schema] = {}

    def reference(self, message: Descriptor, way: str) -> Schema:
        """What refers to the schema of a message."""
        name = message.name + way
        if name not in self.by_name:
            self.by_name[name] = {}  # messages may hold themselves
            self.by_name[name] = self.object(message, way)
        return {"$ref": f"#/components/schemas/{name}"}

    def object(self, message: Descriptor, way: str, left_out: frozenset[str] = frozenset()) -> Schema:
        """The schema of a message, less the fields that are given elsewhere."""
        hidden = is_input_only if way in ANSWERED else is_output_only
        fields = [field for field in message.fields if field.name not in left_out and not hidden(field)]
        schema: Schema = {"type": "object", "description": comments().get(message.full_name, "")}
        schema["properties"] = {field.name: self.property(field, way) for field in fields}
        if way == TOLD:
            required = [field.name for field in fields if not field.has_presence]
        else:
            required = [field.name for field in fields if way == GIVEN and is_required(field)]
        if way not in ANSWERED:
            schema["additionalProperties"] = False
        if required:
            schema["required"] = required
        return schema

    def property(self, field: FieldDescriptor, way: str) -> Schema:
        """The schema of a field, with its comment; null is absence in what is given."""
        # What is changed names its messages whole.
        inside = GIVEN if way == CHANGED else SET if way == TOLD and is_setting(field) else way
        value = self.value(field, inside)
        if way not in ANSWERED and not (way == GIVEN and is_required(field)):
            value = nullable(value)
        schema = value if "$ref" not in value else {"allOf": [value]}
        comment = comments().get(field.full_name, "")
        if way not in ANSWERED:
            schema = {**schema, **bounds(field)}
        return {**schema, "description": comment} if comment else schema

    def value(self, field: FieldDescriptor, way: str) -> Schema:
        """The schema of a field's values."""
        if is_map(field):
            return {"type": "object", "additionalProperties": self.item(value_of_map(field), way)}
        item = self.item(field, way)
        return {"type": "array", "items": item} if field.is_repeated else item

    def item(self, field: FieldDescriptor, way: str) -> Schema:
        """The schema of one value."""
        if field.type == FieldDescriptor.TYPE_ENUM:
            return enum_schema(enum_of(field), way)
        if field.type == FieldDescriptor.TYPE_INT64:
            return dict(INTEGER64)
        if field.message_type is None:
            return dict(PLAIN[field.type])
        if field.message_type.full_name == "google.protobuf.Duration":
            return dict(DURATION) if way in ANSWERED else {"anyOf": [DURATION, SECONDS]}
        if field.message_type.full_name in WELL_KNOWN:
            return dict(WELL_KNOWN[field.message_type.full_name])
        return self.reference(field.message_type, way)


def enum_schema(of: EnumDescriptor, way: str) -> Schema:
    """The schema of an enum's values as they are printed; in requests their full names are taken too.

    Nobody needs to give the unspecified one: it is what absence means.
    """
    names = enum.short_names(of)
    return {"type": "string", "enum": names if way in ANSWERED else names[1:]}


def nullable(schema: Schema) -> Schema:
    """A schema that allows null too."""
    if "type" not in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    allowed = {**schema, "type": [*types, "null"]}
    if "enum" in schema:
        allowed["enum"] = [*schema["enum"], None]
    return allowed
