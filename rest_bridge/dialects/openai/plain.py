"""Requests of the shape that most have, read in one pass: messages of text, and options of one value."""

from typing import Any

from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ChatMessage

from rest_bridge.dialects.openai.message import ROLES
from rest_bridge.dialects.openai.scalar import SCALARS, Scalar

Ranges = dict[type, tuple[Any, Any]]
"""The lowest and the highest value, by types; (None, None) for those that are not ordered."""


def range_of(kind: type, scalar: Scalar) -> tuple[Any, Any]:
    """The inclusive range of a number, in its own type where it has one; of other values (None, None)."""
    if kind is str or kind is bool:
        return None, None
    if kind is float:
        return float(scalar.low), float(scalar.high)
    return scalar.low, scalar.high


OPTIONS: dict[str, Ranges] = {
    **{name: {kind: range_of(kind, scalar) for kind in scalar.types} for name, scalar in SCALARS.items()},
    **{name: {} for name in ("model", "messages", "stream")},
}
"""What a value may be of each option, by its type. No type: it is seen to elsewhere."""
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
            text = document["content"]
            if len(document) != 2 or type(text) is not str:
                return False
            message = add()
            message.role = ROLES[document["role"]]
            message.text = text
        return _are_set(spec, body)
    except ODD:
        return False


def plain_message(document: Any) -> ChatMessage | None:
    """A message that has a role and a text, and nothing else; None for another one."""
    try:
        text = document["content"]
        if len(document) != 2 or type(text) is not str:
            return None
        return ChatMessage(role=ROLES[document["role"]], text=text)
    except ODD:
        return None


def _are_set(spec: ChatCompletionSpec, body: dict[str, Any]) -> bool:
    """Sets the options as most requests have them; whether all of them were. May raise what is ODD."""
    for name, value in body.items():
        ranges = OPTIONS.get(name)
        if ranges and value is not None:
            low, high = ranges[type(value)]
            if low is not None and not low <= value <= high:
                return False
            setattr(spec, name, value)
        elif ranges is None and (name != "stream_options" or not _has_set_usage(spec, value)):
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
