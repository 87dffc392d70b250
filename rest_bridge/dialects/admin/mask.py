"""Update masks: the fields that a change names, and what is wrong with them."""

from collections.abc import Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from rest_bridge.body import InvalidBody
from rest_bridge.dialects.admin.behavior import is_output_only
from rest_bridge.dialects.admin.descriptor import field_at


def changed_paths(resource: Descriptor, document: dict[str, Any]) -> list[str]:
    """The fields that a JSON object names, null ones too, less those that are output only.

    Of a message the fields that its object names are changed, each of them whole: "parameters.temperature".
    """
    return [
        path
        for name, value in document.items()
        if not is_output_only(resource.fields_by_name[name])
        for path in _paths(resource.fields_by_name[name], value)
    ]


def _paths(field: FieldDescriptor, value: Any) -> list[str]:
    name = str(field.name)
    if field.is_repeated or field.message_type is None or not isinstance(value, dict) or not value:
        return [name]
    settable = [inner.name for inner in field.message_type.fields if not is_output_only(inner)]
    if all(value.get(inner) is not None for inner in settable):
        return [name]
    return [f"{name}.{inner}" for inner in value if inner in settable]


def checked_paths(resource: Descriptor, paths: Sequence[str], param: str) -> None:
    """Raises InvalidBody for a path that names no field of a resource, or one that callers cannot set."""
    for path in paths:
        try:
            field = field_at(resource, path)
        except KeyError:
            raise InvalidBody(f"Invalid '{param}': there is no field '{path}'.", param) from None
        if is_output_only(field):
            raise InvalidBody(f"Invalid '{param}': '{path}' cannot be changed.", param)
