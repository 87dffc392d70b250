import datetime

from google.api import annotations_pb2 as _annotations_pb2
from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.api import httpbody_pb2 as _httpbody_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from headgate.v1 import usage_pb2 as _usage_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListUsageRecordsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "account_id", "include_sub_accounts", "key_id", "gateway_id", "model", "tag", "status", "start_time", "end_time", "request_id")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_SUB_ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    account_id: str
    include_sub_accounts: bool
    key_id: str
    gateway_id: str
    model: str
    tag: str
    status: _usage_pb2.UsageStatus
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    request_id: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., account_id: _Optional[str] = ..., include_sub_accounts: _Optional[bool] = ..., key_id: _Optional[str] = ..., gateway_id: _Optional[str] = ..., model: _Optional[str] = ..., tag: _Optional[str] = ..., status: _Optional[_Union[_usage_pb2.UsageStatus, str]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class ListUsageRecordsResponse(_message.Message):
    __slots__ = ("records", "next_page_token")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[_usage_pb2.UsageRecord]
    next_page_token: str
    def __init__(self, records: _Optional[_Iterable[_Union[_usage_pb2.UsageRecord, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ExportUsageRecordsRequest(_message.Message):
    __slots__ = ("account_id", "include_sub_accounts", "key_id", "gateway_id", "model", "tag", "status", "start_time", "end_time")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_SUB_ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    include_sub_accounts: bool
    key_id: str
    gateway_id: str
    model: str
    tag: str
    status: _usage_pb2.UsageStatus
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    def __init__(self, account_id: _Optional[str] = ..., include_sub_accounts: _Optional[bool] = ..., key_id: _Optional[str] = ..., gateway_id: _Optional[str] = ..., model: _Optional[str] = ..., tag: _Optional[str] = ..., status: _Optional[_Union[_usage_pb2.UsageStatus, str]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ExportUsageRecordsResponse(_message.Message):
    __slots__ = ("body",)
    BODY_FIELD_NUMBER: _ClassVar[int]
    body: _httpbody_pb2.HttpBody
    def __init__(self, body: _Optional[_Union[_httpbody_pb2.HttpBody, _Mapping]] = ...) -> None: ...

class SummarizeUsageRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "group_by", "account_id", "include_sub_accounts", "key_id", "gateway_id", "model", "tag", "status", "start_time", "end_time")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_SUB_ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    group_by: _usage_pb2.UsageGrouping
    account_id: str
    include_sub_accounts: bool
    key_id: str
    gateway_id: str
    model: str
    tag: str
    status: _usage_pb2.UsageStatus
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., group_by: _Optional[_Union[_usage_pb2.UsageGrouping, str]] = ..., account_id: _Optional[str] = ..., include_sub_accounts: _Optional[bool] = ..., key_id: _Optional[str] = ..., gateway_id: _Optional[str] = ..., model: _Optional[str] = ..., tag: _Optional[str] = ..., status: _Optional[_Union[_usage_pb2.UsageStatus, str]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class SummarizeUsageResponse(_message.Message):
    __slots__ = ("summaries", "total", "next_page_token")
    SUMMARIES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    summaries: _containers.RepeatedCompositeFieldContainer[_usage_pb2.UsageSummary]
    total: _usage_pb2.UsageSummary
    next_page_token: str
    def __init__(self, summaries: _Optional[_Iterable[_Union[_usage_pb2.UsageSummary, _Mapping]]] = ..., total: _Optional[_Union[_usage_pb2.UsageSummary, _Mapping]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
