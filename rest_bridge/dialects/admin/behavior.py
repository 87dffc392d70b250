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


def _has(field: FieldDescriptor, behavior: int) -> bool:
    return behavior in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
