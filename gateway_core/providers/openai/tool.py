"""Tools and the choice among them: the contract becomes OpenAI's JSON."""

from typing import Any

from headgate.v1.chat_pb2 import FunctionChoice
from headgate.v1.tool_pb2 import AllowedTools, CustomTool, FunctionTool, Tool, ToolChoice

from gateway_core.providers.openai.carried import Carried
from gateway_core.upstream.json_text import Document, json_object, json_value


def tool_document(tool: Tool, carried: Carried, path: str = "tools") -> list[Any]:
    """A tool, in a list; an empty list where it is of a kind that only another format knows."""
    kind = tool.WhichOneof("tool")
    if kind == "other_json":
        return carried.whole(tool.other_json, path)
    document: Document = {}
    if kind == "function":
        document = {"type": "function", "function": function_tool(tool.function, carried, f"{path}.function")}
    elif kind == "custom":
        document = {"type": "custom", "custom": custom_tool(tool.custom, carried, f"{path}.custom")}
    return [carried.merge(document, tool.extra_json, path)]


def function_tool(function: FunctionTool, carried: Carried, path: str) -> Document:
    """A function with JSON arguments."""
    document: Document = {"name": function.name}
    if function.HasField("description"):
        document["description"] = function.description
    if function.HasField("parameters_json"):
        document["parameters"] = json_object(function.parameters_json, f"{path}.parameters_json")
    if function.HasField("strict"):
        document["strict"] = function.strict
    return carried.merge(document, function.extra_json, path)


def custom_tool(custom: CustomTool, carried: Carried, path: str) -> Document:
    """A tool with free-form input."""
    document: Document = {"name": custom.name}
    if custom.HasField("description"):
        document["description"] = custom.description
    if custom.HasField("format"):
        form = custom.format
        document["format"] = {"type": form.type}
        if form.HasField("grammar"):
            grammar: Document = {"definition": form.grammar.definition, "syntax": form.grammar.syntax}
            carried.merge(grammar, form.grammar.extra_json, f"{path}.format.grammar")
            document["format"]["grammar"] = grammar
        carried.merge(document["format"], form.extra_json, f"{path}.format")
    return carried.merge(document, custom.extra_json, path)


def tool_choice(choice: ToolChoice, carried: Carried, path: str = "tool_choice") -> Any:
    """Which tools may or must be called; None where only another format knows the choice."""
    kind = choice.WhichOneof("choice")
    if kind == "mode":
        return choice.mode
    if kind == "other_json":
        return next(iter(carried.whole(choice.other_json, path)), None)
    document: Document = {}
    if kind == "function_name":
        document = {"type": "function", "function": {"name": choice.function_name}}
    elif kind == "custom_name":
        document = {"type": "custom", "custom": {"name": choice.custom_name}}
    elif kind == "allowed_tools":
        allowed = allowed_tools(choice.allowed_tools, carried, f"{path}.allowed_tools")
        document = {"type": "allowed_tools", "allowed_tools": allowed}
    return carried.merge(document, choice.extra_json, path)


def allowed_tools(allowed: AllowedTools, carried: Carried, path: str) -> Document:
    """A choice among some of the tools."""
    tools = [json_value(text, f"{path}.tools_json") for text in allowed.tools_json]
    return carried.merge({"mode": allowed.mode, "tools": tools}, allowed.extra_json, path)


def function_choice(choice: FunctionChoice, carried: Carried, path: str = "function_call") -> Any:
    """Which function is called, in the form before tools."""
    if choice.HasField("mode"):
        return choice.mode
    return carried.merge({"name": choice.name}, choice.extra_json, path)
