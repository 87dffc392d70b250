import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from headgate.v1 import chat_pb2 as _chat_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ContextOverflowAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONTEXT_OVERFLOW_ACTION_UNSPECIFIED: _ClassVar[ContextOverflowAction]
    CONTEXT_OVERFLOW_ACTION_ERROR: _ClassVar[ContextOverflowAction]
    CONTEXT_OVERFLOW_ACTION_TRUNCATE: _ClassVar[ContextOverflowAction]
CONTEXT_OVERFLOW_ACTION_UNSPECIFIED: ContextOverflowAction
CONTEXT_OVERFLOW_ACTION_ERROR: ContextOverflowAction
CONTEXT_OVERFLOW_ACTION_TRUNCATE: ContextOverflowAction

class Gateway(_message.Message):
    __slots__ = ("id", "name", "slug", "model", "instructions", "user_prompt_template", "parameters", "context_limit_tokens", "context_overflow_action", "overrides", "metadata", "version", "create_time", "update_time")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SLUG_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTIONS_FIELD_NUMBER: _ClassVar[int]
    USER_PROMPT_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LIMIT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_OVERFLOW_ACTION_FIELD_NUMBER: _ClassVar[int]
    OVERRIDES_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    id: str
    name: str
    slug: str
    model: str
    instructions: str
    user_prompt_template: str
    parameters: _chat_pb2.ChatCompletionSpec
    context_limit_tokens: int
    context_overflow_action: ContextOverflowAction
    overrides: _containers.RepeatedScalarFieldContainer[str]
    metadata: _containers.ScalarMap[str, str]
    version: int
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., name: _Optional[str] = ..., slug: _Optional[str] = ..., model: _Optional[str] = ..., instructions: _Optional[str] = ..., user_prompt_template: _Optional[str] = ..., parameters: _Optional[_Union[_chat_pb2.ChatCompletionSpec, _Mapping]] = ..., context_limit_tokens: _Optional[int] = ..., context_overflow_action: _Optional[_Union[ContextOverflowAction, str]] = ..., overrides: _Optional[_Iterable[str]] = ..., metadata: _Optional[_Mapping[str, str]] = ..., version: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
