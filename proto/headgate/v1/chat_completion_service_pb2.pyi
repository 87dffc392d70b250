import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from headgate.v1 import chat_pb2 as _chat_pb2
from headgate.v1 import chat_completion_pb2 as _chat_completion_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateChatCompletionRequest(_message.Message):
    __slots__ = ("spec", "json_format")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    JSON_FORMAT_FIELD_NUMBER: _ClassVar[int]
    spec: _chat_pb2.ChatCompletionSpec
    json_format: str
    def __init__(self, spec: _Optional[_Union[_chat_pb2.ChatCompletionSpec, _Mapping]] = ..., json_format: _Optional[str] = ...) -> None: ...

class CreateChatCompletionResponse(_message.Message):
    __slots__ = ("completion", "json")
    COMPLETION_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    completion: _chat_completion_pb2.ChatCompletion
    json: bytes
    def __init__(self, completion: _Optional[_Union[_chat_completion_pb2.ChatCompletion, _Mapping]] = ..., json: _Optional[bytes] = ...) -> None: ...

class StreamChatCompletionRequest(_message.Message):
    __slots__ = ("spec", "detach")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    DETACH_FIELD_NUMBER: _ClassVar[int]
    spec: _chat_pb2.ChatCompletionSpec
    detach: _duration_pb2.Duration
    def __init__(self, spec: _Optional[_Union[_chat_pb2.ChatCompletionSpec, _Mapping]] = ..., detach: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class StreamChatCompletionResponse(_message.Message):
    __slots__ = ("chunk", "sequence")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    chunk: _chat_completion_pb2.ChatCompletionChunk
    sequence: int
    def __init__(self, chunk: _Optional[_Union[_chat_completion_pb2.ChatCompletionChunk, _Mapping]] = ..., sequence: _Optional[int] = ...) -> None: ...

class ResumeChatCompletionRequest(_message.Message):
    __slots__ = ("id", "after_sequence", "detach")
    ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DETACH_FIELD_NUMBER: _ClassVar[int]
    id: str
    after_sequence: int
    detach: _duration_pb2.Duration
    def __init__(self, id: _Optional[str] = ..., after_sequence: _Optional[int] = ..., detach: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ResumeChatCompletionResponse(_message.Message):
    __slots__ = ("chunk", "sequence", "resumed")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    chunk: _chat_completion_pb2.ChatCompletionChunk
    sequence: int
    resumed: ResumedStream
    def __init__(self, chunk: _Optional[_Union[_chat_completion_pb2.ChatCompletionChunk, _Mapping]] = ..., sequence: _Optional[int] = ..., resumed: _Optional[_Union[ResumedStream, _Mapping]] = ...) -> None: ...

class ResumedStream(_message.Message):
    __slots__ = ("model", "stream_options", "begun")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STREAM_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    BEGUN_FIELD_NUMBER: _ClassVar[int]
    model: str
    stream_options: _chat_pb2.StreamOptions
    begun: _chat_completion_pb2.ChatCompletionChunk
    def __init__(self, model: _Optional[str] = ..., stream_options: _Optional[_Union[_chat_pb2.StreamOptions, _Mapping]] = ..., begun: _Optional[_Union[_chat_completion_pb2.ChatCompletionChunk, _Mapping]] = ...) -> None: ...
