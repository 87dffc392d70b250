from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Model(_message.Message):
    __slots__ = ("id", "created", "owned_by", "targets", "price", "context_length", "max_output_tokens", "input_modalities", "output_modalities", "price_class", "features", "facts_date", "extra_json")
    ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    OWNED_BY_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MAX_OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    INPUT_MODALITIES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_MODALITIES_FIELD_NUMBER: _ClassVar[int]
    PRICE_CLASS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    FACTS_DATE_FIELD_NUMBER: _ClassVar[int]
    EXTRA_JSON_FIELD_NUMBER: _ClassVar[int]
    id: str
    created: int
    owned_by: str
    targets: _containers.RepeatedCompositeFieldContainer[ModelTarget]
    price: ModelPrice
    context_length: int
    max_output_tokens: int
    input_modalities: _containers.RepeatedScalarFieldContainer[str]
    output_modalities: _containers.RepeatedScalarFieldContainer[str]
    price_class: str
    features: _containers.RepeatedScalarFieldContainer[str]
    facts_date: str
    extra_json: str
    def __init__(self, id: _Optional[str] = ..., created: _Optional[int] = ..., owned_by: _Optional[str] = ..., targets: _Optional[_Iterable[_Union[ModelTarget, _Mapping]]] = ..., price: _Optional[_Union[ModelPrice, _Mapping]] = ..., context_length: _Optional[int] = ..., max_output_tokens: _Optional[int] = ..., input_modalities: _Optional[_Iterable[str]] = ..., output_modalities: _Optional[_Iterable[str]] = ..., price_class: _Optional[str] = ..., features: _Optional[_Iterable[str]] = ..., facts_date: _Optional[str] = ..., extra_json: _Optional[str] = ...) -> None: ...

class ModelTarget(_message.Message):
    __slots__ = ("provider", "model")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    provider: str
    model: str
    def __init__(self, provider: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class ModelPrice(_message.Message):
    __slots__ = ("input_per_million", "cached_input_per_million", "cache_write_per_million", "output_per_million", "audio_input_per_million", "audio_output_per_million")
    INPUT_PER_MILLION_FIELD_NUMBER: _ClassVar[int]
    CACHED_INPUT_PER_MILLION_FIELD_NUMBER: _ClassVar[int]
    CACHE_WRITE_PER_MILLION_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_PER_MILLION_FIELD_NUMBER: _ClassVar[int]
    AUDIO_INPUT_PER_MILLION_FIELD_NUMBER: _ClassVar[int]
    AUDIO_OUTPUT_PER_MILLION_FIELD_NUMBER: _ClassVar[int]
    input_per_million: str
    cached_input_per_million: str
    cache_write_per_million: str
    output_per_million: str
    audio_input_per_million: str
    audio_output_per_million: str
    def __init__(self, input_per_million: _Optional[str] = ..., cached_input_per_million: _Optional[str] = ..., cache_write_per_million: _Optional[str] = ..., output_per_million: _Optional[str] = ..., audio_input_per_million: _Optional[str] = ..., audio_output_per_million: _Optional[str] = ...) -> None: ...
