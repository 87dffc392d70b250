import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from headgate.v1 import error_reason_pb2 as _error_reason_pb2
from headgate.v1 import model_pb2 as _model_pb2
from headgate.v1 import token_usage_pb2 as _token_usage_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class UsageStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    USAGE_STATUS_UNSPECIFIED: _ClassVar[UsageStatus]
    USAGE_STATUS_OPEN: _ClassVar[UsageStatus]
    USAGE_STATUS_OK: _ClassVar[UsageStatus]
    USAGE_STATUS_FAILED: _ClassVar[UsageStatus]
    USAGE_STATUS_CANCELLED: _ClassVar[UsageStatus]
    USAGE_STATUS_INTERRUPTED: _ClassVar[UsageStatus]

class UsageGrouping(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    USAGE_GROUPING_UNSPECIFIED: _ClassVar[UsageGrouping]
    USAGE_GROUPING_DAY: _ClassVar[UsageGrouping]
    USAGE_GROUPING_HOUR: _ClassVar[UsageGrouping]
    USAGE_GROUPING_MODEL: _ClassVar[UsageGrouping]
    USAGE_GROUPING_KEY: _ClassVar[UsageGrouping]
    USAGE_GROUPING_GATEWAY: _ClassVar[UsageGrouping]
    USAGE_GROUPING_TAG: _ClassVar[UsageGrouping]
    USAGE_GROUPING_ACCOUNT: _ClassVar[UsageGrouping]
USAGE_STATUS_UNSPECIFIED: UsageStatus
USAGE_STATUS_OPEN: UsageStatus
USAGE_STATUS_OK: UsageStatus
USAGE_STATUS_FAILED: UsageStatus
USAGE_STATUS_CANCELLED: UsageStatus
USAGE_STATUS_INTERRUPTED: UsageStatus
USAGE_GROUPING_UNSPECIFIED: UsageGrouping
USAGE_GROUPING_DAY: UsageGrouping
USAGE_GROUPING_HOUR: UsageGrouping
USAGE_GROUPING_MODEL: UsageGrouping
USAGE_GROUPING_KEY: UsageGrouping
USAGE_GROUPING_GATEWAY: UsageGrouping
USAGE_GROUPING_TAG: UsageGrouping
USAGE_GROUPING_ACCOUNT: UsageGrouping

class UsageRecord(_message.Message):
    __slots__ = ("id", "request_id", "start_time", "account_id", "key_id", "gateway_id", "gateway_version", "operation", "dialect", "stream", "requested_model", "response_model", "provider", "status", "error_reason", "finish_reason", "usage", "price", "price_multiplier", "cost_usd", "charged_usd", "reserve_units", "duration_ms", "time_to_first_token_ms", "tag", "metadata", "attempts")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_ID_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_VERSION_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    DIALECT_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_MODEL_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_MODEL_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ERROR_REASON_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    PRICE_MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
    COST_USD_FIELD_NUMBER: _ClassVar[int]
    CHARGED_USD_FIELD_NUMBER: _ClassVar[int]
    RESERVE_UNITS_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    TIME_TO_FIRST_TOKEN_MS_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    id: str
    request_id: str
    start_time: _timestamp_pb2.Timestamp
    account_id: str
    key_id: str
    gateway_id: str
    gateway_version: int
    operation: str
    dialect: str
    stream: bool
    requested_model: str
    response_model: str
    provider: str
    status: UsageStatus
    error_reason: _error_reason_pb2.ErrorReason
    finish_reason: str
    usage: _token_usage_pb2.TokenUsage
    price: _model_pb2.ModelPrice
    price_multiplier: str
    cost_usd: str
    charged_usd: str
    reserve_units: str
    duration_ms: int
    time_to_first_token_ms: int
    tag: str
    metadata: _containers.ScalarMap[str, str]
    attempts: _containers.RepeatedCompositeFieldContainer[UsageAttempt]
    def __init__(self, id: _Optional[str] = ..., request_id: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., account_id: _Optional[str] = ..., key_id: _Optional[str] = ..., gateway_id: _Optional[str] = ..., gateway_version: _Optional[int] = ..., operation: _Optional[str] = ..., dialect: _Optional[str] = ..., stream: _Optional[bool] = ..., requested_model: _Optional[str] = ..., response_model: _Optional[str] = ..., provider: _Optional[str] = ..., status: _Optional[_Union[UsageStatus, str]] = ..., error_reason: _Optional[_Union[_error_reason_pb2.ErrorReason, str]] = ..., finish_reason: _Optional[str] = ..., usage: _Optional[_Union[_token_usage_pb2.TokenUsage, _Mapping]] = ..., price: _Optional[_Union[_model_pb2.ModelPrice, _Mapping]] = ..., price_multiplier: _Optional[str] = ..., cost_usd: _Optional[str] = ..., charged_usd: _Optional[str] = ..., reserve_units: _Optional[str] = ..., duration_ms: _Optional[int] = ..., time_to_first_token_ms: _Optional[int] = ..., tag: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ..., attempts: _Optional[_Iterable[_Union[UsageAttempt, _Mapping]]] = ...) -> None: ...

class UsageAttempt(_message.Message):
    __slots__ = ("start_time", "provider", "model", "status", "error_reason", "http_status", "usage", "price", "cost_usd", "duration_ms", "time_to_first_token_ms")
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ERROR_REASON_FIELD_NUMBER: _ClassVar[int]
    HTTP_STATUS_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    COST_USD_FIELD_NUMBER: _ClassVar[int]
    DURATION_MS_FIELD_NUMBER: _ClassVar[int]
    TIME_TO_FIRST_TOKEN_MS_FIELD_NUMBER: _ClassVar[int]
    start_time: _timestamp_pb2.Timestamp
    provider: str
    model: str
    status: UsageStatus
    error_reason: _error_reason_pb2.ErrorReason
    http_status: int
    usage: _token_usage_pb2.TokenUsage
    price: _model_pb2.ModelPrice
    cost_usd: str
    duration_ms: int
    time_to_first_token_ms: int
    def __init__(self, start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., provider: _Optional[str] = ..., model: _Optional[str] = ..., status: _Optional[_Union[UsageStatus, str]] = ..., error_reason: _Optional[_Union[_error_reason_pb2.ErrorReason, str]] = ..., http_status: _Optional[int] = ..., usage: _Optional[_Union[_token_usage_pb2.TokenUsage, _Mapping]] = ..., price: _Optional[_Union[_model_pb2.ModelPrice, _Mapping]] = ..., cost_usd: _Optional[str] = ..., duration_ms: _Optional[int] = ..., time_to_first_token_ms: _Optional[int] = ...) -> None: ...

class UsageSummary(_message.Message):
    __slots__ = ("group", "request_count", "failed_request_count", "usage", "cost_usd", "charged_usd")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    REQUEST_COUNT_FIELD_NUMBER: _ClassVar[int]
    FAILED_REQUEST_COUNT_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    COST_USD_FIELD_NUMBER: _ClassVar[int]
    CHARGED_USD_FIELD_NUMBER: _ClassVar[int]
    group: str
    request_count: int
    failed_request_count: int
    usage: _token_usage_pb2.TokenUsage
    cost_usd: str
    charged_usd: str
    def __init__(self, group: _Optional[str] = ..., request_count: _Optional[int] = ..., failed_request_count: _Optional[int] = ..., usage: _Optional[_Union[_token_usage_pb2.TokenUsage, _Mapping]] = ..., cost_usd: _Optional[str] = ..., charged_usd: _Optional[str] = ...) -> None: ...
