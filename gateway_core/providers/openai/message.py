"""Messages and their content: the contract becomes OpenAI's JSON."""

from typing import Any

from google.protobuf.message import Message
from headgate.v1 import message_pb2
from headgate.v1.message_pb2 import ChatMessage, ContentPart, ContentParts, FunctionCall, ToolCall

from gateway_core.providers.openai.carried import Carried
from gateway_core.upstream.json_text import Document

ROLES = {
    message_pb2.ROLE_SYSTEM: "system",
    message_pb2.ROLE_DEVELOPER: "developer",
    message_pb2.ROLE_USER: "user",
    message_pb2.ROLE_ASSISTANT: "assistant",
    message_pb2.ROLE_TOOL: "tool",
    message_pb2.ROLE_FUNCTION: "function",
}


def plain(message: Message, carried: Carried, path: str) -> Document:
    """A message whose fields are strings, numbers and booleans under OpenAI's own names: those that are set."""
    document = {field.name: value for field, value in message.ListFields()}
    return carried.merge(document, document.pop("extra_json", ""), path)


def message_document(message: ChatMessage, carried: Carried, path: str = "messages") -> Document:
    """One message of the conversation."""
    document: Document = {"role": ROLES[message.role]}
    if message.HasField("text"):
        document["content"] = message.text
    elif message.HasField("parts"):
        document["content"] = content_parts(message.parts, carried, f"{path}.content")
    for name in ("name", "tool_call_id", "refusal"):
        if message.HasField(name):
            document[name] = getattr(message, name)
    if message.tool_calls:
        document["tool_calls"] = [
            each for call in message.tool_calls for each in tool_call(call, carried, f"{path}.tool_calls")
        ]
    if message.HasField("reasoning"):
        # The word that DeepSeek, Moonshot, vLLM, SGLang, llama.cpp and OpenRouter take back.
        document["reasoning_content"] = message.reasoning
    if message.reasoning_details:
        document["reasoning_details"] = [
            {"type": detail.type, **plain(detail, carried, f"{path}.reasoning_details")}
            for detail in message.reasoning_details
        ]
    if message.HasField("audio"):
        document["audio"] = {"id": message.audio.id, **plain(message.audio, carried, f"{path}.audio")}
    if message.HasField("function_call"):
        document["function_call"] = function_call(message.function_call, carried, f"{path}.function_call")
    return carried.merge(document, message.extra_json, path)


def content_parts(content: ContentParts, carried: Carried, path: str) -> list[Any]:
    """Content as a list of parts."""
    return [document for part in content.parts for document in content_part(part, carried, path)]


def content_part(part: ContentPart, carried: Carried, path: str) -> list[Any]:
    """One part, in a list; an empty list where the part is of a kind that only another format knows."""
    kind = part.WhichOneof("part")
    if kind == "other_json":
        return carried.whole(part.other_json, path)
    document: Document = {}
    if kind is not None:
        document["type"] = kind
        value = getattr(part, kind)
        document[kind] = value if isinstance(value, str) else PARTS[kind](value, carried, f"{path}.{kind}")
    if part.HasField("prompt_cache_breakpoint"):
        where = f"{path}.prompt_cache_breakpoint"
        document["prompt_cache_breakpoint"] = plain(part.prompt_cache_breakpoint, carried, where)
    return [carried.merge(document, part.extra_json, path)]


def url_part(message: Message, carried: Carried, path: str) -> Document:
    """An image or a moving picture."""
    return {"url": "", **plain(message, carried, path)}


def audio_part(message: Message, carried: Carried, path: str) -> Document:
    """A sound."""
    return {"data": "", **plain(message, carried, path)}


PARTS = {"image_url": url_part, "video_url": url_part, "input_audio": audio_part, "file": plain}


def tool_call(call: ToolCall, carried: Carried, path: str) -> list[Any]:
    """One call of an earlier turn, in a list; an empty list where only another format knows its kind."""
    kind = call.WhichOneof("call")
    if kind == "other_json":
        return carried.whole(call.other_json, path)
    document: Document = {}
    if call.HasField("id"):
        document["id"] = call.id
    if kind is not None:
        document["type"] = kind
        document[kind] = plain(getattr(call, kind), carried, f"{path}.{kind}")
    return [carried.merge(document, call.extra_json, path)]


def function_call(call: FunctionCall, carried: Carried, path: str) -> Document:
    """A call of a function, in the form before tools."""
    return plain(call, carried, path)
