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
    __slots__ = ("spec",)
    SPEC_FIELD_NUMBER: _ClassVar[int]
    spec: _chat_pb2.ChatCompletionSpec
    def __init__(self, spec: _Optional[_Union[_chat_pb2.ChatCompletionSpec, _Mapping]] = ...) -> None: ...

class StreamChatCompletionResponse(_message.Message):
    __slots__ = ("chunk",)
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    chunk: _chat_completion_pb2.ChatCompletionChunk
    def __init__(self, chunk: _Optional[_Union[_chat_completion_pb2.ChatCompletionChunk, _Mapping]] = ...) -> None: ...
