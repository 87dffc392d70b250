"""Tools, the choice among them and their calls: OpenAI's JSON becomes the contract."""

from headgate.v1.chat_pb2 import FunctionChoice
from headgate.v1.message_pb2 import CustomToolCall, FunctionCall, ToolCall
from headgate.v1.tool_pb2 import (
    AllowedTools,
    CustomTool,
    CustomToolFormat,
    FunctionTool,
    Grammar,
    Tool,
    ToolChoice,
)

from rest_bridge.body import Fields, checked_text, json_text, missing, mistyped


def tool(fields: Fields) -> Tool:
    """A tool that the model may call; one of an unknown type is carried whole."""
    kind = required_type(fields)
    if kind == "function":
        fields.drop("type")
        function = function_tool(fields.required_fields("function"))
        return Tool(function=function, extra_json=fields.extra_json())
    if kind == "custom":
        fields.drop("type")
        custom = custom_tool(fields.required_fields("custom"))
        return Tool(custom=custom, extra_json=fields.extra_json())
    return Tool(other_json=fields.whole_json())


def function_tool(fields: Fields) -> FunctionTool:
    """A function with JSON arguments."""
    return FunctionTool(
        name=fields.required_text("name"),
        description=fields.text("description"),
        parameters_json=fields.object_json("parameters"),
        strict=fields.boolean("strict"),
        extra_json=fields.extra_json(),
    )


def custom_tool(fields: Fields) -> CustomTool:
    """A tool with free-form input."""
    form = fields.fields("format")
    return CustomTool(
        name=fields.required_text("name"),
        description=fields.text("description"),
        format=custom_tool_format(form) if form else None,
        extra_json=fields.extra_json(),
    )


def custom_tool_format(fields: Fields) -> CustomToolFormat:
    """The form of a custom tool's input."""
    grammar = fields.fields("grammar")
    return CustomToolFormat(
        type=fields.required_text("type"),
        grammar=Grammar(
            definition=grammar.required_text("definition"),
            syntax=grammar.required_text("syntax"),
            extra_json=grammar.extra_json(),
        )
        if grammar
        else None,
        extra_json=fields.extra_json(),
    )


def tool_choice(body: Fields) -> ToolChoice | None:
    """The field `tool_choice`: a word, or an object that names a tool or some tools."""
    value = body.peek("tool_choice")
    if value is None or type(value) is str:
        word = body.text("tool_choice")
        return None if word is None else ToolChoice(mode=word)
    if type(value) is not dict:
        raise mistyped(body.at("tool_choice"), "a string or an object", value)
    fields = body.required_fields("tool_choice")
    kind = required_type(fields)
    if kind not in ("function", "custom", "allowed_tools"):
        return ToolChoice(other_json=fields.whole_json())
    named = Fields(fields.peek(kind), fields.at(kind)) if kind in fields else None
    if named is None:
        raise missing(fields.at(kind))
    if kind == "allowed_tools":
        fields.drop("type", kind)
        return ToolChoice(allowed_tools=allowed_tools(named), extra_json=fields.extra_json())
    name = named.required_text("name")
    if named.extra_json():
        # The contract has a place for the name only.
        return ToolChoice(other_json=fields.whole_json())
    fields.drop("type", kind)
    if kind == "function":
        return ToolChoice(function_name=name, extra_json=fields.extra_json())
    return ToolChoice(custom_name=name, extra_json=fields.extra_json())


def allowed_tools(fields: Fields) -> AllowedTools:
    """A choice among some of the tools."""
    return AllowedTools(
        mode=fields.required_text("mode"),
        tools_json=[json_text(named, path) for named, path in object_items(fields, "tools")],
        extra_json=fields.extra_json(),
    )


def object_items(fields: Fields, name: str) -> list[tuple[dict[str, object], str]]:
    """The objects of an array that are only carried, each with its path."""
    items = list(fields.items(name))
    for item, path in items:
        if type(item) is not dict:
            raise mistyped(path, "an object", item)
    return items


def tool_call(fields: Fields, index: int) -> ToolCall:
    """A call that the assistant made in an earlier turn, at a position of its message."""
    kind = fields.text("type") if fields.peek("type") in ("function", "custom") else fields.peek("type")
    # Some clients leave the type out where it can be told from the other field.
    if kind == "function" or (kind is None and "function" in fields):
        called = function_call(fields.required_fields("function"))
        return ToolCall(index=index, id=fields.text("id"), function=called, extra_json=fields.extra_json())
    if kind == "custom":
        custom = fields.required_fields("custom")
        return ToolCall(
            index=index,
            id=fields.text("id"),
            custom=CustomToolCall(
                name=custom.required_text("name"), input=custom.text("input"), extra_json=custom.extra_json()
            ),
            extra_json=fields.extra_json(),
        )
    required_type(fields)
    return ToolCall(index=index, other_json=fields.whole_json())


def function_call(fields: Fields) -> FunctionCall:
    """A call of a function."""
    return FunctionCall(
        name=fields.required_text("name"), arguments=fields.text("arguments"), extra_json=fields.extra_json()
    )


def function_choice(body: Fields) -> FunctionChoice | None:
    """The field `function_call` of a request: a word, or an object that names a function."""
    value = body.peek("function_call")
    if type(value) is dict:
        fields = body.required_fields("function_call")
        return FunctionChoice(name=fields.required_text("name"), extra_json=fields.extra_json())
    if value is not None and type(value) is not str:
        raise mistyped(body.at("function_call"), "a string or an object", value)
    word = body.text("function_call")
    return None if word is None else FunctionChoice(mode=word)


def required_type(fields: Fields) -> str:
    """The field `type`, which must be there, and stays to be taken."""
    kind = fields.peek("type")
    if kind is None:
        raise missing(fields.at("type"))
    return checked_text(kind, fields.at("type"))
