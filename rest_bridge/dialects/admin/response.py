"""The response of an RPC → the administrative API's JSON."""

import re
from typing import Any

import orjson
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

from rest_bridge.dialects.admin import enum
from rest_bridge.dialects.admin.behavior import is_input_only, is_setting
from rest_bridge.dialects.admin.binding import Binding
from rest_bridge.dialects.admin.descriptor import descriptor_of, enum_of, is_map, value_of_map

SAFE_INTEGER = 2**53 - 1
"""The largest integer that every JSON reader reads exactly; larger ones are printed as strings."""
TOKEN = "next_page_token"
AS_TEXT = ("google.protobuf.Timestamp", "google.protobuf.Duration")

DONE = {
    "Create": "created",
    "Get": "found",
    "List": "listed",
    "Update": "updated",
    "Delete": "deleted",
    "Rotate": "rotated",
    "Add": "added",
    "Send": "sent",
    "Summarize": "summarized",
}


def answer(binding: Binding, response: Message) -> bytes:
    """The document of a success: {"message": …, "data": …}, and beside them the token of the next page."""
    document: dict[str, Any] = {"message": sentence(binding.method), "data": data(binding, response)}
    if TOKEN in descriptor_of(response).fields_by_name:
        document[TOKEN] = getattr(response, TOKEN)
    return orjson.dumps(document)


def data(binding: Binding, response: Message) -> Any:
    """What was asked for: the field that the annotation names, a page's only list, or the whole response."""
    if binding.response_body:
        return json_value(descriptor_of(response).fields_by_name[binding.response_body], response)
    field = page_field(descriptor_of(response))
    if field is not None:
        return json_value(field, response)
    document = json_object(response)
    document.pop(TOKEN, None)
    return document


def page_field(response: Descriptor) -> FieldDescriptor | None:
    """The list of a response that is only one page of it; None where there is more to it."""
    fields = [field for field in response.fields if field.name != TOKEN]
    return fields[0] if len(fields) == 1 and fields[0].is_repeated else None


def sentence(method: MethodDescriptor) -> str:
    """What was done: "Hook secret rotated." for RotateHookSecret."""
    first, *rest = re.findall(r"[A-Z][a-z0-9]*", method.name)
    return f"{' '.join(rest).capitalize()} {DONE.get(first, 'done')}."


def json_object(message: Message) -> dict[str, Any]:
    """A message's fields: those without presence always, those with presence where they are set, no input only ones."""
    return {
        field.name: json_value(field, message, brief=is_setting(field))
        for field in descriptor_of(message).fields
        if not (field.has_presence and not message.HasField(field.name)) and not is_input_only(field)
    }


def json_settings(message: Message) -> dict[str, Any]:
    """The fields of a message that the caller gave: those that are not empty, no input only ones."""
    return {
        field.name: json_value(field, message, brief=True)
        for field, _ in message.ListFields()
        if not is_input_only(field)
    }


def json_value(field: FieldDescriptor, message: Message, *, brief: bool = False) -> Any:
    """The value of one field."""
    value = getattr(message, field.name)
    if is_map(field):
        return {key: json_item(value_of_map(field), entry) for key, entry in value.items()}
    return [json_item(field, item, brief) for item in value] if field.is_repeated else json_item(field, value, brief)


def json_item(field: FieldDescriptor, value: Any, brief: bool = False) -> Any:
    """One value of a field's type."""
    if field.message_type is not None:
        if field.message_type.full_name in AS_TEXT:
            return value.ToJsonString()
        return json_settings(value) if brief else json_object(value)
    if field.type == FieldDescriptor.TYPE_ENUM:
        return enum.printed(enum_of(field), value)
    if type(value) is int and abs(value) > SAFE_INTEGER:
        return str(value)
    return value
