"""JSON, query and path → the request of an RPC; what is wrong is named by its path in the body or the query."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from rest_bridge.body import InvalidBody, mistyped
from rest_bridge.dialects.admin.behavior import is_output_only
from rest_bridge.dialects.admin.binding import MASK, Binding
from rest_bridge.dialects.admin.descriptor import descriptor_of, field_at, is_map, value_of_map
from rest_bridge.dialects.admin.mask import changed_paths, checked_paths
from rest_bridge.dialects.admin.unknown import settable, unknown
from rest_bridge.dialects.admin.value import WELL_KNOWN, is_well_known, scalar

KEY_CARRIERS = frozenset({"api-key"})
"""Query parameters that carry the caller's key."""
QUERY_FIELDS_AT_MOST = 1000

NUMERIC = (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT)


def request_message(binding: Binding, variables: Mapping[str, str], query: bytes, body: dict[str, Any]) -> Message:
    """The request that a binding's RPC is called with; raises InvalidBody.

    `variables` are the values of the path by the paths of their fields, `query` is the query string, `body` the decoded
    JSON object ({} where there is none).
    """
    request: Message = GetMessageClass(binding.method.input_type)()
    if binding.body_field is not None:
        read_object(getattr(request, binding.body), body, "")
        getattr(request, binding.body).SetInParent()
    else:
        read_object(request, body, "")
    read_query(request, query, {name.partition(".")[0] for name in variables}, binding.body)
    if binding.resource is not None:
        read_mask(request, binding, binding.resource, body)
    for path, value in variables.items():
        inside = path.removeprefix(f"{binding.body}.") if binding.body_field is not None else path
        if body.get(inside, value) not in (None, value):
            raise InvalidBody(f"Invalid '{inside}': it differs from the path's, '{value}'.", inside)
        setattr(owner_of(request, path), path.rpartition(".")[2], value)
    return request


def read_object(message: Message, document: Any, path: str) -> None:
    """Sets the fields of a message from a JSON object. null is absence; what is output only is checked and dropped."""
    if type(document) is not dict:
        raise mistyped(path, "an object", document)
    for name, value in document.items():
        at = f"{path}.{name}" if path else name
        field = descriptor_of(message).fields_by_name.get(name)
        if field is None:
            raise unknown(at, settable(descriptor_of(message)))
        if value is None:
            continue
        if field.containing_oneof is not None:
            other = message.WhichOneof(field.containing_oneof.name)
            if other is not None:
                raise InvalidBody(f"Invalid '{at}': '{other}' is given too; only one of them may be.", at)
        read_field(message, field, value, at)
        if is_output_only(field):
            message.ClearField(name)


def read_field(message: Message, field: FieldDescriptor, value: Any, path: str) -> None:
    """Sets one field."""
    if is_map(field):
        read_map(message, field, value, path)
    elif field.is_repeated:
        if type(value) is not list:
            raise mistyped(path, "an array", value)
        for index, item in enumerate(value):
            at = f"{path}[{index}]"
            if field.message_type is None:
                getattr(message, field.name).append(scalar(field, item, at))
            else:
                read_message(getattr(message, field.name).add(), item, at)
    elif field.message_type is not None:
        child = getattr(message, field.name)
        child.SetInParent()
        read_message(child, value, path)
    else:
        setattr(message, field.name, scalar(field, value, path))


def read_message(message: Message, value: Any, path: str) -> None:
    """Sets a message that stands in another one."""
    if is_well_known(message):
        WELL_KNOWN[message.DESCRIPTOR.full_name](message, value, path)
    else:
        read_object(message, value, path)


def read_map(message: Message, field: FieldDescriptor, value: Any, path: str) -> None:
    """Sets a map whose keys are strings."""
    if type(value) is not dict:
        raise mistyped(path, "an object", value)
    of_entry = value_of_map(field)
    for key, entry in value.items():
        getattr(message, field.name)[key] = scalar(of_entry, entry, f"{path}.{key}")


def read_query(request: Message, query: bytes, taken: set[str], body: str) -> None:
    """Sets the fields that the query gives, by their dotted names: those that neither path nor body gives."""
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=QUERY_FIELDS_AT_MOST)
    except ValueError:
        raise InvalidBody(f"The query has more than {QUERY_FIELDS_AT_MOST} parameters.") from None
    seen: set[str] = set()
    for name, text in pairs:
        if name in KEY_CARRIERS:
            continue
        field = query_field(descriptor_of(request), name)
        first = name.partition(".")[0]
        if field is None or first in taken or body in ("*", first):
            raise unknown(name, query_names(descriptor_of(request), {*taken, body}))
        if name == MASK:
            continue
        if not field.is_repeated and name in seen:
            raise InvalidBody(f"Invalid '{name}': it is given more than once.", name)
        seen.add(name)
        owner = owner_of(request, name)
        value = query_value(field, text, name)
        if field.is_repeated:
            getattr(owner, field.name).append(scalar(field, value, name))
        else:
            read_field(owner, field, value, name)
    masks = [text for name, text in pairs if name == MASK]
    if masks:
        getattr(request, MASK).paths.extend(path for text in masks for path in text.split(","))


def query_field(message: Descriptor, name: str) -> FieldDescriptor | None:
    """The field that a query parameter names; None where there is none that a query can give."""
    try:
        field = field_at(message, name)
    except KeyError:
        return None
    if field.message_type is None or name == MASK:
        return field
    return field if field.message_type.full_name in WELL_KNOWN and not field.is_repeated else None


def query_names(message: Descriptor, taken: set[str]) -> list[str]:
    """The names of the parameters that a query can give; none where the body gives all."""
    if "*" in taken:
        return []
    return [field.name for field in message.fields if field.name not in taken and query_field(message, field.name)]


def query_value(field: FieldDescriptor, text: str, path: str) -> Any:
    """The JSON value that a parameter's text stands for."""
    if field.type == FieldDescriptor.TYPE_BOOL:
        return {"true": True, "false": False}.get(text, text)
    if field.type in NUMERIC:
        try:
            return float(text)
        except ValueError:
            raise mistyped(path, "a number", text) from None
    return text


def owner_of(message: Message, path: str) -> Message:
    """The message that holds the field which a dotted path names."""
    for name in path.split(".")[:-1]:
        message = getattr(message, name)
        message.SetInParent()
    return message


def read_mask(request: Message, binding: Binding, resource: Descriptor, body: dict[str, Any]) -> None:
    """Checks the mask that was given; without one it is what the body's JSON names."""
    mask = getattr(request, MASK)
    if request.HasField(MASK) or mask.paths:
        checked_paths(resource, mask.paths, MASK)
        return
    bound = {name.removeprefix(f"{binding.body}.") for name in binding.variables}
    mask.paths.extend(path for path in changed_paths(resource, body) if path not in bound)
