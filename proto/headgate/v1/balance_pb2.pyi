import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from headgate.v1 import plan_pb2 as _plan_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LimitMeasure(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LIMIT_MEASURE_UNSPECIFIED: _ClassVar[LimitMeasure]
    LIMIT_MEASURE_REQUESTS: _ClassVar[LimitMeasure]
    LIMIT_MEASURE_INPUT_TOKENS: _ClassVar[LimitMeasure]
LIMIT_MEASURE_UNSPECIFIED: LimitMeasure
LIMIT_MEASURE_REQUESTS: LimitMeasure
LIMIT_MEASURE_INPUT_TOKENS: LimitMeasure

class Balance(_message.Message):
    __slots__ = ("account_id", "balance_usd", "reserved_usd", "spent_usd", "spend_cap_usd", "unlimited", "plan", "limits", "reserve")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    BALANCE_USD_FIELD_NUMBER: _ClassVar[int]
    RESERVED_USD_FIELD_NUMBER: _ClassVar[int]
    SPENT_USD_FIELD_NUMBER: _ClassVar[int]
    SPEND_CAP_USD_FIELD_NUMBER: _ClassVar[int]
    UNLIMITED_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    RESERVE_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    balance_usd: str
    reserved_usd: str
    spent_usd: str
    spend_cap_usd: str
    unlimited: bool
    plan: _plan_pb2.Plan
    limits: _containers.RepeatedCompositeFieldContainer[LimitState]
    reserve: _containers.RepeatedCompositeFieldContainer[ReserveState]
    def __init__(self, account_id: _Optional[str] = ..., balance_usd: _Optional[str] = ..., reserved_usd: _Optional[str] = ..., spent_usd: _Optional[str] = ..., spend_cap_usd: _Optional[str] = ..., unlimited: _Optional[bool] = ..., plan: _Optional[_Union[_plan_pb2.Plan, _Mapping]] = ..., limits: _Optional[_Iterable[_Union[LimitState, _Mapping]]] = ..., reserve: _Optional[_Iterable[_Union[ReserveState, _Mapping]]] = ...) -> None: ...

class LimitState(_message.Message):
    __slots__ = ("measure", "window_seconds", "limit", "remaining", "reset_time")
    MEASURE_FIELD_NUMBER: _ClassVar[int]
    WINDOW_SECONDS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    RESET_TIME_FIELD_NUMBER: _ClassVar[int]
    measure: LimitMeasure
    window_seconds: int
    limit: int
    remaining: int
    reset_time: _timestamp_pb2.Timestamp
    def __init__(self, measure: _Optional[_Union[LimitMeasure, str]] = ..., window_seconds: _Optional[int] = ..., limit: _Optional[int] = ..., remaining: _Optional[int] = ..., reset_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ReserveState(_message.Message):
    __slots__ = ("window_seconds", "units", "units_remaining", "reset_time")
    WINDOW_SECONDS_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    UNITS_REMAINING_FIELD_NUMBER: _ClassVar[int]
    RESET_TIME_FIELD_NUMBER: _ClassVar[int]
    window_seconds: int
    units: int
    units_remaining: str
    reset_time: _timestamp_pb2.Timestamp
    def __init__(self, window_seconds: _Optional[int] = ..., units: _Optional[int] = ..., units_remaining: _Optional[str] = ..., reset_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Credit(_message.Message):
    __slots__ = ("id", "account_id", "amount_usd", "reference", "note", "expire_time", "remaining_usd", "create_time")
    ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_USD_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_TIME_FIELD_NUMBER: _ClassVar[int]
    REMAINING_USD_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    id: str
    account_id: str
    amount_usd: str
    reference: str
    note: str
    expire_time: _timestamp_pb2.Timestamp
    remaining_usd: str
    create_time: _timestamp_pb2.Timestamp
    def __init__(self, id: _Optional[str] = ..., account_id: _Optional[str] = ..., amount_usd: _Optional[str] = ..., reference: _Optional[str] = ..., note: _Optional[str] = ..., expire_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., remaining_usd: _Optional[str] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
