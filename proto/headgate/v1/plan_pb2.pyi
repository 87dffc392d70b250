import datetime

from google.api import field_behavior_pb2 as _field_behavior_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Plan(_message.Message):
    __slots__ = ("name", "description", "windows", "context_limit_tokens", "allowed_models", "allowed_price_classes", "price_multiplier", "concurrent_calls_per_key", "reserve", "queued_calls_per_key", "queue_seconds", "create_time", "update_time")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LIMIT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_MODELS_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_PRICE_CLASSES_FIELD_NUMBER: _ClassVar[int]
    PRICE_MULTIPLIER_FIELD_NUMBER: _ClassVar[int]
    CONCURRENT_CALLS_PER_KEY_FIELD_NUMBER: _ClassVar[int]
    RESERVE_FIELD_NUMBER: _ClassVar[int]
    QUEUED_CALLS_PER_KEY_FIELD_NUMBER: _ClassVar[int]
    QUEUE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    windows: _containers.RepeatedCompositeFieldContainer[PlanWindow]
    context_limit_tokens: int
    allowed_models: _containers.RepeatedScalarFieldContainer[str]
    allowed_price_classes: _containers.RepeatedScalarFieldContainer[str]
    price_multiplier: str
    concurrent_calls_per_key: int
    reserve: PlanReserve
    queued_calls_per_key: int
    queue_seconds: int
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., windows: _Optional[_Iterable[_Union[PlanWindow, _Mapping]]] = ..., context_limit_tokens: _Optional[int] = ..., allowed_models: _Optional[_Iterable[str]] = ..., allowed_price_classes: _Optional[_Iterable[str]] = ..., price_multiplier: _Optional[str] = ..., concurrent_calls_per_key: _Optional[int] = ..., reserve: _Optional[_Union[PlanReserve, _Mapping]] = ..., queued_calls_per_key: _Optional[int] = ..., queue_seconds: _Optional[int] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class PlanWindow(_message.Message):
    __slots__ = ("window_seconds", "requests", "input_tokens")
    WINDOW_SECONDS_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    window_seconds: int
    requests: int
    input_tokens: int
    def __init__(self, window_seconds: _Optional[int] = ..., requests: _Optional[int] = ..., input_tokens: _Optional[int] = ...) -> None: ...

class PlanReserve(_message.Message):
    __slots__ = ("windows", "models")
    WINDOWS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    windows: _containers.RepeatedCompositeFieldContainer[ReserveWindow]
    models: _containers.RepeatedCompositeFieldContainer[ReserveModel]
    def __init__(self, windows: _Optional[_Iterable[_Union[ReserveWindow, _Mapping]]] = ..., models: _Optional[_Iterable[_Union[ReserveModel, _Mapping]]] = ...) -> None: ...

class ReserveWindow(_message.Message):
    __slots__ = ("window_seconds", "units")
    WINDOW_SECONDS_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    window_seconds: int
    units: int
    def __init__(self, window_seconds: _Optional[int] = ..., units: _Optional[int] = ...) -> None: ...

class ReserveModel(_message.Message):
    __slots__ = ("model", "units_per_usd")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    UNITS_PER_USD_FIELD_NUMBER: _ClassVar[int]
    model: str
    units_per_usd: str
    def __init__(self, model: _Optional[str] = ..., units_per_usd: _Optional[str] = ...) -> None: ...
