"""What the descriptors of the contract say of messages and fields, in types that hold."""

from typing import cast

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message


def descriptor_of(message: Message) -> Descriptor:
    """What a message is."""
    return cast(Descriptor, message.DESCRIPTOR)


def message_of(field: FieldDescriptor) -> Descriptor:
    """The message that a field holds, which must hold one."""
    return cast(Descriptor, field.message_type)


def enum_of(field: FieldDescriptor) -> EnumDescriptor:
    """The enum that a field's value is of, which must be one."""
    return cast(EnumDescriptor, field.enum_type)


def is_map(field: FieldDescriptor) -> bool:
    """Whether a field holds names and values."""
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def value_of_map(field: FieldDescriptor) -> FieldDescriptor:
    """What the values of a map are."""
    return message_of(field).fields_by_name["value"]


def field_at(message: Descriptor, path: str) -> FieldDescriptor:
    """The field that a dotted path names; raises KeyError for one that is not there or goes through a repeated one."""
    name, _, rest = path.partition(".")
    field = message.fields_by_name[name]
    if not rest:
        return field
    if field.message_type is None or field.is_repeated:
        raise KeyError(path)
    return field_at(field.message_type, rest)
