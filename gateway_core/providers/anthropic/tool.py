"""Tools and the choice among them: the contract becomes Anthropic's JSON.

Sources: https://platform.claude.com/docs/en/api/messages/create (ToolParam, ToolChoiceParam).
"""

from typing import Any

from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.tool_pb2 import AllowedTools, FunctionTool, Tool

from gateway_core.providers.anthropic.carried import Carried
from gateway_core.providers.anthropic.schema import told_schema
from gateway_core.upstream.json_text import Document, json_object, json_value

MODES = {"auto": "auto", "none": "none", "required": "any"}


def tools(spec: ChatCompletionSpec, carried: Carried) -> list[Any]:
    """The tools that may be called."""
    written = [
        document
        for index, tool in enumerate(spec.tools)
        for document in tool_document(tool, carried, f"tools[{index}]")
    ]
    if spec.tool_choice.WhichOneof("choice") == "allowed_tools":
        names = allowed_names(spec.tool_choice.allowed_tools)
        written = [tool for tool in written if tool.get("name") in names]
    return written


def tool_document(tool: Tool, carried: Carried, path: str) -> list[Any]:
    """A tool, in a list; an empty list where it is of a kind that this format does not know."""
    kind = tool.WhichOneof("tool")
    if kind == "other_json":
        return carried.whole(tool.other_json, path)
    if kind == "function":
        document = function_tool(tool.function, carried, f"{path}.function")
        return [carried.merge(document, tool.extra_json, path)]
    carried.leave_out(f"{path}.{kind}", "the provider {} has no tools with free-form input")
    return []


def function_tool(function: FunctionTool, carried: Carried, path: str) -> Document:
    """A function with JSON arguments."""
    document: Document = {"name": function.name}
    if function.description:
        document["description"] = function.description
    schema = json_object(function.parameters_json, f"{path}.parameters_json") if function.parameters_json else {}
    if function.strict:
        schema = told_schema(schema, carried, f"{path}.parameters")
    document["input_schema"] = {"type": "object", **schema} if schema else {"type": "object", "properties": {}}
    if function.strict:
        document["strict"] = True
    return carried.merge(document, function.extra_json, path)


def tool_choice(spec: ChatCompletionSpec, carried: Carried) -> Document | None:
    """Which tools may or must be called, and whether several at once; None: as the provider does by default."""
    document = choice_document(spec, carried)
    is_single = spec.HasField("parallel_tool_calls") and not spec.parallel_tool_calls
    if is_single and spec.tools:
        document = document or {"type": "auto"}
        if document.get("type") != "none":
            document["disable_parallel_tool_use"] = True
    return document


def choice_document(spec: ChatCompletionSpec, carried: Carried) -> Document | None:
    """Which tools may or must be called."""
    choice = spec.tool_choice
    match choice.WhichOneof("choice"):
        case "mode":
            # Without tools, a choice among them is refused.
            kind = MODES.get(choice.mode, choice.mode)
            return {"type": kind} if spec.tools else None
        case "function_name":
            return {"type": "tool", "name": choice.function_name}
        case "custom_name":
            return {"type": "tool", "name": choice.custom_name}
        case "allowed_tools":
            return {"type": MODES.get(choice.allowed_tools.mode, "auto")}
        case "other_json":
            found = next(iter(carried.whole(choice.other_json, "tool_choice")), None)
            return found if isinstance(found, dict) else None
    return None


def allowed_names(allowed: AllowedTools) -> set[str]:
    """The names of the tools among which to choose."""
    names = set()
    for text in allowed.tools_json:
        named = json_value(text, "tool_choice.allowed_tools.tools_json")
        inner = named.get("function") or named.get("custom") or named if isinstance(named, dict) else {}
        name = inner.get("name") if isinstance(inner, dict) else None
        if isinstance(name, str):
            names.add(name)
    return names


def is_forced(choice: Document | None) -> bool:
    """Whether a tool must be called."""
    return choice is not None and choice.get("type") in ("any", "tool")
