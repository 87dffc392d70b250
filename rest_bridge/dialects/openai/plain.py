"""Requests of the shape that most have, read in one pass: messages of text, and options of one value."""

from typing import Any

from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ChatMessage

from rest_bridge.dialects.openai.message import ROLES
from rest_bridge.dialects.openai.scalar import SCALARS


def put_plain_spec(body: dict[str, Any], spec: ChatCompletionSpec) -> bool:
    """Puts what a body asks for into a spec that is empty; false for one of any other shape, be it right or wrong.

    Whatever is put is what `any_spec` would tell, which is asked for everything else; some of it may be in the spec
    by then.
    """
    if type(body) is not dict or not body.get("model") or not body.get("messages"):
        return False
    try:
        for name, value in body.items():
            scalar = SCALARS.get(name)
            if scalar is None:
                if not _is_set(spec, name, value):
                    return False
            elif value is not None:
                kind = type(value)
                if kind not in scalar.types or (
                    kind is not str and kind is not bool and not scalar.low <= value <= scalar.high
                ):
                    return False
                setattr(spec, name, value)
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def plain_message(document: Any) -> ChatMessage | None:
    """A message that has a role and a text, and nothing else; None for another one."""
    message = ChatMessage()
    try:
        return message if _is_filled(message, document) else None
    except UnicodeEncodeError:
        return None


def _is_filled(message: ChatMessage, document: Any) -> bool:
    """Fills a message where it is a plain one; whether it was. Raises UnicodeEncodeError."""
    if type(document) is not dict or len(document) != 2:
        return False
    role, text = document.get("role"), document.get("content")
    if type(role) is not str or type(text) is not str or role not in ROLES:
        return False
    message.role = ROLES[role]
    message.text = text
    return True


def _is_set(spec: ChatCompletionSpec, name: str, value: Any) -> bool:
    """Sets a field that is no scalar where it is as most have it; whether it was."""
    if name == "messages":
        add = spec.messages.add
        return type(value) is list and all([_is_filled(add(), document) for document in value])
    if name == "model":
        if type(value) is not str:
            return False
        spec.model = value
        return True
    if name == "stream_options" and type(value) is dict and len(value) == 1:
        wished = value.get("include_usage")
        if type(wished) is bool:
            spec.stream_options.include_usage = wished
            return True
    return name == "stream"
