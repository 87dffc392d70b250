"""Update masks: the fields that a change names, and what is wrong with them."""

from collections.abc import Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor

from rest_bridge.body import InvalidBody
from rest_bridge.dialects.admin.behavior import is_output_only
from rest_bridge.dialects.admin.descriptor import field_at


def changed_paths(resource: Descriptor, document: dict[str, Any]) -> list[str]:
    """The fields that a JSON object names, null ones too, less those that are output only.

    A message is named whole: what its object leaves out is cleared.
    """
    return [name for name in document if not is_output_only(resource.fields_by_name[name])]


def checked_paths(resource: Descriptor, paths: Sequence[str], param: str) -> None:
    """Raises InvalidBody for a path that names no field of a resource, or one that callers cannot set."""
    for path in paths:
        try:
            field = field_at(resource, path)
        except KeyError:
            raise InvalidBody(f"Invalid '{param}': there is no field '{path}'.", param) from None
        if is_output_only(field):
            raise InvalidBody(f"Invalid '{param}': '{path}' cannot be changed.", param)
