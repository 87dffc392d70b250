"""The fields of a resource that are given where it is made and stay: a change that names another value is refused.

The contract has them as output only, which may be sent back as they were told.
"""

from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from rest_bridge.body import InvalidBody
from rest_bridge.dialects.admin import enum
from rest_bridge.dialects.admin.behavior import is_output_only
from rest_bridge.dialects.admin.binding import bindings
from rest_bridge.dialects.admin.descriptor import enum_of


@cache
def fixed_fields(resource: Descriptor) -> tuple[FieldDescriptor, ...]:
    """The fields that the request which makes a resource has too."""
    makers = [binding.method.input_type for binding in bindings() if binding.method.name == f"Create{resource.name}"]
    given = {field.name for maker in makers for field in maker.fields}
    return tuple(field for field in resource.fields if is_output_only(field) and field.name in given)


def named_fields(resource: Descriptor, body: dict[str, Any]) -> list[FieldDescriptor]:
    """Those of them that a body names."""
    return [field for field in fixed_fields(resource) if body.get(field.name) is not None]


def check_fixed(fields: list[FieldDescriptor], body: dict[str, Any], told: dict[str, Any]) -> None:
    """Raises InvalidBody where a body has another value than the resource, as it is told, has."""
    for field in fields:
        given, there = body[field.name], told.get(field.name)
        if field.type == FieldDescriptor.TYPE_ENUM:
            given, there = enum.number(enum_of(field), given), enum.number(enum_of(field), str(there))
        if given != there:
            raise InvalidBody(f"Invalid '{field.name}': it cannot be changed.", str(field.name))
