"""The messages and tools of Ollama's chat → the contract."""

from collections.abc import Iterable

from headgate.v1 import message_pb2
from headgate.v1.message_pb2 import ChatMessage, FunctionCall, Role, ToolCall
from headgate.v1.tool_pb2 import FunctionTool, Tool

from rest_bridge.body import Fields, InvalidBody, checked_text
from rest_bridge.dialects.ollama.media import media_part

ROLES: dict[str, Role] = {
    "system": message_pb2.ROLE_SYSTEM,
    "developer": message_pb2.ROLE_DEVELOPER,
    "user": message_pb2.ROLE_USER,
    "assistant": message_pb2.ROLE_ASSISTANT,
    "tool": message_pb2.ROLE_TOOL,
}


def conversation(items: Iterable[Fields]) -> list[ChatMessage]:
    """The messages, with an id for every tool call and every result; raises InvalidBody.

    Ollama's calls may have no id, and its results name the tool only, or nothing: such a result belongs to the first
    call of that name, or the first call, of the latest calling message that is not answered yet. An id that is made up
    follows from the call's position, so that a conversation keeps its ids from turn to turn.
    """
    messages: list[ChatMessage] = []
    unanswered: list[ToolCall] = []
    for index, fields in enumerate(items):
        role = ROLES.get(fields.required_text("role").lower())
        if role is None:
            raise InvalidBody(f"{fields.at('role')} must be one of {', '.join(ROLES)}", fields.at("role"))
        message = ChatMessage(role=role)
        calls = [tool_call(call, f"call_{index}_{n}", n) for n, call in enumerate(fields.objects("tool_calls"))]
        message.tool_calls.extend(calls)
        unanswered = calls or unanswered
        if role == message_pb2.ROLE_TOOL:
            set_answered_call(message, fields, unanswered)
        set_content(message, fields.text("content") or "", fields)
        if reasoning := fields.text("thinking"):
            message.reasoning = reasoning
        message.extra_json = fields.extra_json()
        messages.append(message)
    return messages


def set_content(message: ChatMessage, text: str, fields: Fields) -> None:
    """Sets text and images. Images come first, where Ollama puts them too."""
    images = [media_part(image, f"{fields.at('images')}[{n}]") for n, image in enumerate(fields.texts("images"))]
    if images:
        message.parts.parts.extend(images)
        if text:
            message.parts.parts.add(text=text)
    elif text or not message.tool_calls:
        message.text = text


def set_answered_call(message: ChatMessage, fields: Fields, unanswered: list[ToolCall]) -> None:
    """Sets which call a result answers, and takes the call off the list. A name that fits none stays in the fields."""
    given, name = fields.text("tool_call_id"), fields.peek("tool_name")
    if name is not None:
        checked_text(name, fields.at("tool_name"))
    for call in unanswered:
        if call.id == given or (not given and name in (None, "", call.function.name)):
            message.tool_call_id = call.id
            unanswered.remove(call)
            fields.drop("tool_name")
            return
    if given:
        message.tool_call_id = given


def tool_call(fields: Fields, new_id: str, position: int) -> ToolCall:
    """A call that the assistant made; the id is made up where there is none."""
    given = fields.text("id")
    fields.text("type")
    function = fields.required_fields("function")
    function.integer("index")
    call = FunctionCall(name=function.required_text("name"), arguments=function.object_json("arguments") or "{}")
    call.extra_json = function.extra_json()
    return ToolCall(index=position, id=given or new_id, function=call, extra_json=fields.extra_json())


def tool(fields: Fields) -> Tool:
    """A tool that the model may call; raises InvalidBody for a schema that cannot be one of arguments."""
    if (kind := fields.text("type")) not in (None, "", "function"):
        raise InvalidBody(f'{fields.at("type")} must be "function", not "{kind}"', fields.at("type"))
    function = fields.required_fields("function")
    if "parameters" in function:
        check_schema(Fields(function.peek("parameters"), function.at("parameters")))
    named = FunctionTool(
        name=function.required_text("name"),
        description=function.text("description"),
        parameters_json=function.object_json("parameters"),
        strict=function.boolean("strict"),
    )
    named.extra_json = function.extra_json()
    return Tool(function=named, extra_json=fields.extra_json())


def check_schema(schema: Fields) -> None:
    """Raises InvalidBody where what Ollama reads of a schema of arguments is not what it must be."""
    schema.text("type")
    schema.texts("required")
    for name, described in schema.entries("properties").items():
        if type(described) is not bool:
            Fields(described, f"{schema.at('properties')}.{name}")
