from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Tool(_message.Message):
    __slots__ = ("function", "custom", "other_json", "extra_json")
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_FIELD_NUMBER: _ClassVar[int]
    OTHER_JSON_FIELD_NUMBER: _ClassVar[int]
    EXTRA_JSON_FIELD_NUMBER: _ClassVar[int]
    function: FunctionTool
    custom: CustomTool
    other_json: str
    extra_json: str
    def __init__(self, function: _Optional[_Union[FunctionTool, _Mapping]] = ..., custom: _Optional[_Union[CustomTool, _Mapping]] = ..., other_json: _Optional[str] = ..., extra_json: _Optional[str] = ...) -> None: ...

class FunctionTool(_message.Message):
    __slots__ = ("name", "description", "parameters_json", "strict", "extra_json")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_JSON_FIELD_NUMBER: _ClassVar[int]
    STRICT_FIELD_NUMBER: _ClassVar[int]
    EXTRA_JSON_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    parameters_json: str
    strict: bool
    extra_json: str
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., parameters_json: _Optional[str] = ..., strict: _Optional[bool] = ..., extra_json: _Optional[str] = ...) -> None: ...

class CustomTool(_message.Message):
    __slots__ = ("name", "description", "format", "extra_json")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    EXTRA_JSON_FIELD_NUMBER: _ClassVar[int]
    name: str
    description: str
    format: CustomToolFormat
    extra_json: str
    def __init__(self, name: _Optional[str] = ..., description: _Optional[str] = ..., format: _Optional[_Union[CustomToolFormat, _Mapping]] = ..., extra_json: _Optional[str] = ...) -> None: ...

class CustomToolFormat(_message.Message):
    __slots__ = ("type", "grammar", "extra_json")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    GRAMMAR_FIELD_NUMBER: _ClassVar[int]
    EXTRA_JSON_FIELD_NUMBER: _ClassVar[int]
    type: str
    grammar: Grammar
    extra_json: str
    def __init__(self, type: _Optional[str] = ..., grammar: _Optional[_Union[Grammar, _Mapping]] = ..., extra_json: _Optional[str] = ...) -> None: ...

class Grammar(_message.Message):
    __slots__ = ("definition", "syntax", "extra_json")
    DEFINITION_FIELD_NUMBER: _ClassVar[int]
    SYNTAX_FIELD_NUMBER: _ClassVar[int]
    EXTRA_JSON_FIELD_NUMBER: _ClassVar[int]
    definition: str
    syntax: str
    extra_json: str
    def __init__(self, definition: _Optional[str] = ..., syntax: _Optional[str] = ..., extra_json: _Optional[str] = ...) -> None: ...

class ToolChoice(_message.Message):
    __slots__ = ("mode", "function_name", "custom_name", "allowed_tools", "other_json", "extra_json")
    MODE_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_NAME_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_NAME_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_TOOLS_FIELD_NUMBER: _ClassVar[int]
    OTHER_JSON_FIELD_NUMBER: _ClassVar[int]
    EXTRA_JSON_FIELD_NUMBER: _ClassVar[int]
    mode: str
    function_name: str
    custom_name: str
    allowed_tools: AllowedTools
    other_json: str
    extra_json: str
    def __init__(self, mode: _Optional[str] = ..., function_name: _Optional[str] = ..., custom_name: _Optional[str] = ..., allowed_tools: _Optional[_Union[AllowedTools, _Mapping]] = ..., other_json: _Optional[str] = ..., extra_json: _Optional[str] = ...) -> None: ...

class AllowedTools(_message.Message):
    __slots__ = ("mode", "tools_json", "extra_json")
    MODE_FIELD_NUMBER: _ClassVar[int]
    TOOLS_JSON_FIELD_NUMBER: _ClassVar[int]
    EXTRA_JSON_FIELD_NUMBER: _ClassVar[int]
    mode: str
    tools_json: _containers.RepeatedScalarFieldContainer[str]
    extra_json: str
    def __init__(self, mode: _Optional[str] = ..., tools_json: _Optional[_Iterable[str]] = ..., extra_json: _Optional[str] = ...) -> None: ...
