import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from headgate.v1 import token_usage_pb2 as _token_usage_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class UsageGrouping(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    USAGE_GROUPING_UNSPECIFIED: _ClassVar[UsageGrouping]
    USAGE_GROUPING_DAY: _ClassVar[UsageGrouping]
    USAGE_GROUPING_MODEL: _ClassVar[UsageGrouping]
    USAGE_GROUPING_KEY: _ClassVar[UsageGrouping]
    USAGE_GROUPING_GATEWAY: _ClassVar[UsageGrouping]
USAGE_GROUPING_UNSPECIFIED: UsageGrouping
USAGE_GROUPING_DAY: UsageGrouping
USAGE_GROUPING_MODEL: UsageGrouping
USAGE_GROUPING_KEY: UsageGrouping
USAGE_GROUPING_GATEWAY: UsageGrouping

class UsageRecord(_message.Message):
    __slots__ = ("request_id", "start_time", "account_id", "key_id", "gateway_id", "gateway_version", "requested_model", "response_model", "provider", "usage", "cost_usd", "duration_ms", "time_to_first_token_ms", "finish_reason", "status", "tag", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_ID_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_VERSION_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_MODEL_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_MODEL_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    COST_USD_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    TIME_TO_FIRST_TOKEN_MS_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    start_time: _timestamp_pb2.Timestamp
    account_id: str
    key_id: str
    gateway_id: str
    gateway_version: int
    requested_model: str
    response_model: str
    provider: str
    usage: _token_usage_pb2.TokenUsage
    cost_usd: str
    duration_ms: int
    time_to_first_token_ms: int
    finish_reason: str
    status: str
    tag: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, request_id: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., account_id: _Optional[str] = ..., key_id: _Optional[str] = ..., gateway_id: _Optional[str] = ..., gateway_version: _Optional[int] = ..., requested_model: _Optional[str] = ..., response_model: _Optional[str] = ..., provider: _Optional[str] = ..., usage: _Optional[_Union[_token_usage_pb2.TokenUsage, _Mapping]] = ..., cost_usd: _Optional[str] = ..., duration_ms: _Optional[int] = ..., time_to_first_token_ms: _Optional[int] = ..., finish_reason: _Optional[str] = ..., status: _Optional[str] = ..., tag: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class UsageSummary(_message.Message):
    __slots__ = ("group", "request_count", "failed_request_count", "usage", "cost_usd")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    REQUEST_COUNT_FIELD_NUMBER: _ClassVar[int]
    FAILED_REQUEST_COUNT_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    COST_USD_FIELD_NUMBER: _ClassVar[int]
    group: str
    request_count: int
    failed_request_count: int
    usage: _token_usage_pb2.TokenUsage
    cost_usd: str
    def __init__(self, group: _Optional[str] = ..., request_count: _Optional[int] = ..., failed_request_count: _Optional[int] = ..., usage: _Optional[_Union[_token_usage_pb2.TokenUsage, _Mapping]] = ..., cost_usd: _Optional[str] = ...) -> None: ...
