"""What the model says, in OpenAI's JSON, becomes the contract: messages, deltas, their tool calls and probabilities."""

from typing import Any

import orjson
from headgate.v1 import message_pb2
from headgate.v1.chat_completion_pb2 import Annotation, AnswerMessage, Logprobs, TokenLogprob, TokenLogprobs
from headgate.v1.message_pb2 import FunctionCall, ToolCall

from gateway_core.providers.openai.reading import (
    INT32,
    Fields,
    Read,
    objects,
    part,
    read,
    real,
    skip,
    small,
    whole,
    words,
)

ROLES = {
    "assistant": message_pb2.ROLE_ASSISTANT,
    "system": message_pb2.ROLE_SYSTEM,
    "developer": message_pb2.ROLE_DEVELOPER,
    "user": message_pb2.ROLE_USER,
    "tool": message_pb2.ROLE_TOOL,
    "function": message_pb2.ROLE_FUNCTION,
}


def role(message: AnswerMessage, value: Any) -> bool:
    """Who speaks."""
    known = ROLES.get(value) if type(value) is str else None
    if known is None:
        # Some hosts send an empty role in all deltas but the first.
        return type(value) is str and not value
    message.role = known
    return True


def content(message: AnswerMessage, value: Any) -> bool:
    """Text; from hosts that answer in parts (Mistral), the texts of the parts, and what was thought apart."""
    if type(value) is str:
        message.content = value
        return True
    if not objects(value):
        return False
    texts, thoughts = [], []
    for item in value:
        if item.get("type") == "text" and type(item.get("text")) is str:
            texts.append(item["text"])
        elif item.get("type") == "thinking" and (thought := thinking(item.get("thinking"))) is not None:
            thoughts.append(thought)
        else:
            # A list with parts of other kinds has no place in the contract, and is carried whole.
            return False
    if texts:
        message.content = "".join(texts)
    if thoughts:
        message.reasoning = "".join(thoughts)
    return True


def thinking(value: Any) -> str | None:
    """The text of a part of type thinking; None where it is in no known form."""
    if type(value) is str:
        return value
    if objects(value) and all(type(item.get("text")) is str for item in value):
        return "".join(item["text"] for item in value)
    return None


def reasoning_content(message: AnswerMessage, value: Any) -> bool:
    """The older word for reasoning; hosts that send both words send the same text."""
    if type(value) is not str:
        return False
    if value and not message.HasField("reasoning"):
        message.reasoning = value
    return True


def arguments(call: FunctionCall, value: Any) -> bool:
    """The arguments of a call; from hosts that decode them, as JSON text again."""
    if type(value) is dict:
        value = orjson.dumps(value).decode()
    if type(value) is not str:
        return False
    call.arguments = value
    return True


FUNCTION_CALL: Fields = {"name": words("name"), "arguments": arguments}
CUSTOM_CALL: Fields = {"name": words("name"), "input": str}
FUNCTION_TOOL_CALL: Fields = {
    "index": small("index"),
    "id": words("id"),
    "type": skip,
    "function": part("function", FUNCTION_CALL),
}
CUSTOM_TOOL_CALL: Fields = {
    "index": small("index"),
    "id": words("id"),
    "type": skip,
    "custom": part("custom", CUSTOM_CALL),
}


def tool_calls(message: AnswerMessage, value: Any) -> bool:
    """Calls of tools; one without an index is at its position in the list."""
    if not objects(value):
        return False
    for position, document in enumerate(value):
        tool_call(message.tool_calls.add(index=position), document)
    return True


def tool_call(call: ToolCall, document: dict[str, Any]) -> None:
    """A call of a tool, or a piece of one; one of an unknown kind is carried whole."""
    kind = document.get("type")
    if type(document.get("custom")) is dict:
        read(document, call, CUSTOM_TOOL_CALL)
    elif kind in ("function", None, "") or type(document.get("function")) is dict:
        read(document, call, FUNCTION_TOOL_CALL)
    else:
        index, identity = whole(document.get("index"), INT32), document.get("id")
        if index is not None:
            call.index = index
        if type(identity) is str and identity:
            call.id = identity
        call.other_json = orjson.dumps({name: item for name, item in document.items() if name != "index"}).decode()


REASONING_DETAIL: Fields = {
    "type": str,
    "id": str,
    "format": str,
    "index": small("index"),
    "text": str,
    "summary": str,
    "data": str,
    "signature": str,
}
URL_CITATION: Fields = {
    "url": str,
    "title": str,
    "start_index": small("start_index"),
    "end_index": small("end_index"),
}
ANNOTATION: Fields = {"type": skip, "url_citation": part("url_citation", URL_CITATION)}
AUDIO: Fields = {
    "id": str,
    "data": str,
    "transcript": str,
    "expires_at": int,
}


def reasoning_details(message: AnswerMessage, value: Any) -> bool:
    """Reasoning as its provider wants it back."""
    if not objects(value):
        return False
    for document in value:
        read(document, message.reasoning_details.add(), REASONING_DETAIL)
    return True


def annotations(message: AnswerMessage, value: Any) -> bool:
    """Where the text comes from; an annotation of an unknown kind is carried whole."""
    if not objects(value):
        return False
    for document in value:
        annotation: Annotation = message.annotations.add()
        if document.get("type") == "url_citation" and type(document.get("url_citation")) is dict:
            read(document, annotation, ANNOTATION)
        else:
            annotation.other_json = orjson.dumps(document).decode()
    return True


def tokens(name: str) -> Read:
    """The log probabilities of some tokens."""

    def put(message: Logprobs, value: Any) -> bool:
        if not objects(value):
            return False
        found: TokenLogprobs = getattr(message, name)
        found.SetInParent()
        for document in value:
            read(document, found.tokens.add(), TOKEN)
        return True

    return put


def utf8(token: TokenLogprob, value: Any) -> bool:
    """The bytes of a token, as a list of numbers."""
    if type(value) is not list:
        return False
    try:
        token.utf8 = bytes(value)
    except (TypeError, ValueError):
        return False
    return True


def top_logprobs(token: TokenLogprob, value: Any) -> bool:
    """The most probable tokens in the place of another."""
    if not objects(value):
        return False
    for document in value:
        read(document, token.top_logprobs.add(), ALTERNATIVE)
    return True


ALTERNATIVE: Fields = {"token": str, "logprob": real("logprob"), "bytes": utf8}
TOKEN: Fields = {**ALTERNATIVE, "top_logprobs": top_logprobs}
LOGPROBS: Fields = {"content": tokens("content"), "refusal": tokens("refusal")}

MESSAGE: Fields = {
    "role": role,
    "content": content,
    "reasoning": words("reasoning"),
    "reasoning_content": reasoning_content,
    "tool_calls": tool_calls,
    "refusal": words("refusal"),
    "reasoning_details": reasoning_details,
    "audio": part("audio", AUDIO),
    "annotations": annotations,
    "function_call": part("function_call", FUNCTION_CALL),
}
"""The fields of a message, and of the delta that adds to one."""
