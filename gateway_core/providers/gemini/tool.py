"""Tools and the choice among them: the contract becomes Gemini's JSON.

Sources: Tool, FunctionDeclaration and ToolConfig in https://ai.google.dev/api/caching#Tool.
"""

from typing import Any

from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.tool_pb2 import AllowedTools, FunctionTool, Tool, ToolChoice

from gateway_core.errors import InvalidRequest
from gateway_core.providers.gemini.carried import Carried
from gateway_core.providers.gemini.schema import parameters, sentence
from gateway_core.upstream.json_text import Document, json_object, json_value

MODES = {"none": "NONE", "auto": "AUTO", "required": "ANY"}


def tools(spec: ChatCompletionSpec, carried: Carried) -> list[Document]:
    """The tools: all functions are in one of Gemini's tools, and what is its own stands beside it."""
    functions: list[Document] = []
    others: list[Document] = []
    for index, tool in enumerate(spec.tools):
        put(tool, functions, others, carried, f"tools[{index}]")
    return [{"functionDeclarations": functions}, *others] if functions else others


def put(tool: Tool, functions: list[Document], others: list[Document], carried: Carried, path: str) -> None:
    """Puts one tool where it belongs."""
    kind = tool.WhichOneof("tool")
    if kind == "function":
        functions.append(declaration(tool.function, carried, f"{path}.function"))
        carried.merge({}, tool.extra_json, path)
    elif kind == "other_json":
        others += carried.whole(tool.other_json, path)
    else:
        # There is no tool with free text.
        carried.leave(f"{path}.{kind}")


def declaration(function: FunctionTool, carried: Carried, path: str) -> Document:
    """A function that may be called."""
    document: Document = {"name": function.name}
    if function.HasField("description"):
        document["description"] = function.description
    if function.HasField("parameters_json"):
        dropped: set[str] = set()
        schema = json_object(function.parameters_json, f"{path}.parameters_json")
        if (written := parameters(schema, dropped)) is not None:
            document["parametersJsonSchema"] = written
        if dropped:
            carried.changed[f"{path}.parameters"] = sentence(dropped)
    return carried.merge(document, function.extra_json, path)


def tool_config(spec: ChatCompletionSpec, carried: Carried) -> Document | None:
    """Which functions may or must be called; None where it is left to the model."""
    choice = spec.tool_choice
    config = calling(choice, carried) if spec.HasField("tool_choice") else {}
    if config.get("mode", "AUTO") == "AUTO" and any(tool.function.strict for tool in spec.tools):
        # Calls are held to their schemas in this mode only.
        config = {"mode": "VALIDATED"}
    return {"functionCallingConfig": config} if config else None


def calling(choice: ToolChoice, carried: Carried) -> Document:
    """The choice."""
    carried.merge({}, choice.extra_json, "tool_choice")
    match choice.WhichOneof("choice"):
        case "mode":
            if choice.mode not in MODES:
                raise InvalidRequest(f"tool_choice must be one of {', '.join(MODES)}.", param="tool_choice")
            return {"mode": MODES[choice.mode]}
        case "function_name":
            return {"mode": "ANY", "allowedFunctionNames": [choice.function_name]}
        case "allowed_tools":
            mode = "ANY" if choice.allowed_tools.mode == "required" else "VALIDATED"
            return {"mode": mode, "allowedFunctionNames": allowed(choice.allowed_tools, carried)}
        case "other_json" if carried.fits:
            return json_object(choice.other_json, "tool_choice.other_json")
        case kind:
            carried.leave(f"tool_choice.{kind}")
            return {}


def allowed(tools: AllowedTools, carried: Carried) -> list[str]:
    """The names of the functions among which to choose."""
    names = []
    for text in tools.tools_json:
        name = function_name(json_value(text, "tool_choice.allowed_tools.tools_json"))
        if name:
            names.append(name)
        else:
            carried.leave("tool_choice.allowed_tools")
    return names


def function_name(named: Any) -> str:
    """The function that an entry of allowed tools names. Empty: none."""
    inner = named.get("function", named) if type(named) is dict else None
    name = inner.get("name") if type(inner) is dict else None
    return name if type(name) is str else ""
