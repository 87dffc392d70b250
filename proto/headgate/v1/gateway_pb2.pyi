import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from headgate.v1 import chat_pb2 as _chat_pb2
from headgate.v1 import message_pb2 as _message_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class InstructionsPlacement(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INSTRUCTIONS_PLACEMENT_UNSPECIFIED: _ClassVar[InstructionsPlacement]
    INSTRUCTIONS_PLACEMENT_BEFORE: _ClassVar[InstructionsPlacement]
    INSTRUCTIONS_PLACEMENT_AFTER: _ClassVar[InstructionsPlacement]

class ContextOverflowAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CONTEXT_OVERFLOW_ACTION_UNSPECIFIED: _ClassVar[ContextOverflowAction]
    CONTEXT_OVERFLOW_ACTION_ERROR: _ClassVar[ContextOverflowAction]
    CONTEXT_OVERFLOW_ACTION_TRUNCATE: _ClassVar[ContextOverflowAction]
INSTRUCTIONS_PLACEMENT_UNSPECIFIED: InstructionsPlacement
INSTRUCTIONS_PLACEMENT_BEFORE: InstructionsPlacement
INSTRUCTIONS_PLACEMENT_AFTER: InstructionsPlacement
CONTEXT_OVERFLOW_ACTION_UNSPECIFIED: ContextOverflowAction
CONTEXT_OVERFLOW_ACTION_ERROR: ContextOverflowAction
CONTEXT_OVERFLOW_ACTION_TRUNCATE: ContextOverflowAction

class Gateway(_message.Message):
    __slots__ = ("id", "account_id", "name", "slug", "model", "endpoint", "instructions", "instructions_role", "instructions_placement", "user_prompt_template", "parameters", "prefill", "echo_prefill", "context_limit_tokens", "context_overflow_action", "overrides", "metadata", "version", "create_time", "update_time")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SLUG_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTIONS_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTIONS_ROLE_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTIONS_PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    USER_PROMPT_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    PREFILL_FIELD_NUMBER: _ClassVar[int]
    ECHO_PREFILL_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LIMIT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_OVERFLOW_ACTION_FIELD_NUMBER: _ClassVar[int]
    OVERRIDES_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    id: str
    account_id: str
    name: str
    slug: str
    model: str
    endpoint: OwnEndpoint
    instructions: str
    instructions_role: _message_pb2.Role
    instructions_placement: InstructionsPlacement
    user_prompt_template: str
    parameters: _chat_pb2.ChatCompletionSpec
    prefill: str
    echo_prefill: bool
    context_limit_tokens: int
    context_overflow_action: ContextOverflowAction
    overrides: GatewayOverrides
    metadata: _containers.ScalarMap[str, str]
    version: int
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., account_id: _Optional[str] = ..., name: _Optional[str] = ..., slug: _Optional[str] = ..., model: _Optional[str] = ..., endpoint: _Optional[_Union[OwnEndpoint, _Mapping]] = ..., instructions: _Optional[str] = ..., instructions_role: _Optional[_Union[_message_pb2.Role, str]] = ..., instructions_placement: _Optional[_Union[InstructionsPlacement, str]] = ..., user_prompt_template: _Optional[str] = ..., parameters: _Optional[_Union[_chat_pb2.ChatCompletionSpec, _Mapping]] = ..., prefill: _Optional[str] = ..., echo_prefill: _Optional[bool] = ..., context_limit_tokens: _Optional[int] = ..., context_overflow_action: _Optional[_Union[ContextOverflowAction, str]] = ..., overrides: _Optional[_Union[GatewayOverrides, _Mapping]] = ..., metadata: _Optional[_Mapping[str, str]] = ..., version: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class OwnEndpoint(_message.Message):
    __slots__ = ("base_url", "model", "api_key", "masked_api_key")
    BASE_URL_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    API_KEY_FIELD_NUMBER: _ClassVar[int]
    MASKED_API_KEY_FIELD_NUMBER: _ClassVar[int]
    base_url: str
    model: str
    api_key: str
    masked_api_key: str
    def __init__(self, base_url: _Optional[str] = ..., model: _Optional[str] = ..., api_key: _Optional[str] = ..., masked_api_key: _Optional[str] = ...) -> None: ...

class GatewayOverrides(_message.Message):
    __slots__ = ("parameters",)
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    parameters: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, parameters: _Optional[_Iterable[str]] = ...) -> None: ...
