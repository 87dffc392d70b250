"""Requests of the shape that most have, read in one pass: messages of text, and options of one value."""

from typing import Any

from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ChatMessage

from rest_bridge.dialects.openai.message import ROLES
from rest_bridge.dialects.openai.scalar import SCALARS

BOUNDS = {name: (scalar.types, scalar.low, scalar.high) for name, scalar in SCALARS.items()}
NO_OPTIONS = frozenset({"model", "messages", "stream"})
"""What a body has beside options."""
ODD = (KeyError, TypeError, UnicodeEncodeError)
"""What may be raised for another shape: it lacks a field, is of another type, has half of a surrogate pair."""


def put_plain_spec(body: dict[str, Any], spec: ChatCompletionSpec) -> bool:
    """Puts what a body asks for into a spec that is empty; false for one of any other shape, be it right or wrong.

    Whatever is put is what `any_spec` would tell, which is asked for everything else; some of it may be in the spec
    by then.
    """
    if type(body) is not dict:
        return False
    model, documents = body.get("model"), body.get("messages")
    if not model or type(model) is not str or not documents or type(documents) is not list:
        return False
    stream = body.get("stream")
    if stream is not None and type(stream) is not bool:
        return False
    add = spec.messages.add
    try:
        spec.model = model
        for document in documents:
            if not _is_filled(add(), document):
                return False
        return _are_set(spec, body)
    except ODD:
        return False


def plain_message(document: Any) -> ChatMessage | None:
    """A message that has a role and a text, and nothing else; None for another one."""
    message = ChatMessage()
    try:
        return message if _is_filled(message, document) else None
    except ODD:
        return None


def _is_filled(message: ChatMessage, document: Any) -> bool:
    """Fills a message where it is a plain one; whether it was. May raise what is ODD."""
    if type(document) is not dict or len(document) != 2:
        return False
    text = document["content"]
    if type(text) is not str:
        return False
    message.role = ROLES[document["role"]]
    message.text = text
    return True


def _are_set(spec: ChatCompletionSpec, body: dict[str, Any]) -> bool:
    """Sets the options as most requests have them; whether all of them were. May raise what is ODD."""
    for name, value in body.items():
        bounds = BOUNDS.get(name)
        if bounds is not None:
            if value is None:
                continue
            types, low, high = bounds
            kind = type(value)
            if kind not in types or (kind is not str and kind is not bool and not low <= value <= high):
                return False
            setattr(spec, name, value)
        elif name not in NO_OPTIONS and not (name == "stream_options" and _has_set_usage(spec, value)):
            return False
    return True


def _has_set_usage(spec: ChatCompletionSpec, options: Any) -> bool:
    """Sets whether the usage is asked for, where that is all that the options of a stream say; whether it was."""
    if type(options) is not dict or len(options) != 1:
        return False
    wished = options["include_usage"]
    if type(wished) is not bool:
        return False
    spec.stream_options.include_usage = wished
    return True
