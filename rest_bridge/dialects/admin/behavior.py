"""Who sets a field, as the google.api.field_behavior annotations of the contract say."""

from google.api import field_behavior_pb2
from google.protobuf.descriptor import FieldDescriptor


def is_output_only(field: FieldDescriptor) -> bool:
    """Whether callers cannot set a field."""
    return _has(field, field_behavior_pb2.OUTPUT_ONLY)


def is_input_only(field: FieldDescriptor) -> bool:
    """Whether a field is never told."""
    return _has(field, field_behavior_pb2.INPUT_ONLY)


def is_required(field: FieldDescriptor) -> bool:
    """Whether callers must set a field."""
    return _has(field, field_behavior_pb2.REQUIRED)


def is_setting(field: FieldDescriptor) -> bool:
    """Whether a field holds one message that callers give, in a resource: in one that has fields of its own making."""
    owner = field.containing_type
    return (
        owner is not None
        and field.message_type is not None
        and not field.is_repeated
        and not is_output_only(field)
        and any(map(is_output_only, owner.fields))
    )


def _has(field: FieldDescriptor, behavior: int) -> bool:
    return behavior in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
