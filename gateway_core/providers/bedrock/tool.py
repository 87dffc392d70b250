"""Tools, the choice among them and their calls: the contract becomes Converse's JSON.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ToolConfiguration.html
"""

import hashlib
import re
from collections.abc import Iterable

from headgate.v1.message_pb2 import ToolCall
from headgate.v1.tool_pb2 import Tool, ToolChoice

from gateway_core.errors import InvalidRequest
from gateway_core.providers.bedrock.written import Written
from gateway_core.upstream.json_text import Document, given_arguments, json_object

ID = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")

NO_ARGUMENTS: Document = {"type": "object", "properties": {}}


def tool_blocks(tool: Tool, path: str, written: Written) -> list[Document]:
    """A tool and the mark of the prompt cache after it; an empty list for a tool that Converse does not know."""
    if not tool.HasField("function"):
        written.leave_out(path)
        return []
    point = written.extra(tool.extra_json, path)
    function = tool.function
    written.extra(function.extra_json, f"{path}.function")
    spec: Document = {"name": function.name}
    if function.description:
        spec["description"] = function.description
    schema = NO_ARGUMENTS
    if function.parameters_json:
        schema = json_object(function.parameters_json, f"{path}.function.parameters_json") or NO_ARGUMENTS
    if function.strict:
        schema = written.closed(schema, f"{path}.function.parameters")
    spec["inputSchema"] = {"json": schema}
    if function.strict:
        spec["strict"] = True
    return [{"toolSpec": spec}] if point is None else [{"toolSpec": spec}, point]


def declared(names: Iterable[str]) -> list[Document]:
    """Tools of which only the names are known: Converse wants them declared where the conversation has calls."""
    return [{"toolSpec": {"name": name, "inputSchema": {"json": NO_ARGUMENTS}}} for name in names]


def tool_choice(choice: ToolChoice) -> Document | None:
    """Which tool may or must be called; None where Converse has no word for it."""
    if choice.HasField("function_name"):
        return {"tool": {"name": choice.function_name}}
    return {"auto": {"auto": {}}, "required": {"any": {}}}.get(choice.mode)


def tool_use(call: ToolCall, path: str) -> Document | None:
    """A call of an earlier turn; None for one of a kind that nobody here knows. Raises InvalidRequest."""
    if call.HasField("function"):
        name, arguments = call.function.name, given_arguments(call.function.arguments)
    elif call.HasField("custom"):
        name, arguments = call.custom.name, {"input": call.custom.input}
    else:
        return None
    if not name:
        raise InvalidRequest(f"{path} has no name.", param=path)
    return {"toolUseId": tool_use_id(call.id), "name": name, "input": arguments}


def tool_use_id(identity: str) -> str:
    """The id of a call as Bedrock allows it: other vendors' may be longer, or have other characters."""
    if ID.fullmatch(identity):
        return identity
    return f"call_{hashlib.sha256(identity.encode(errors='surrogatepass')).hexdigest()[:32]}"
