"""Parameters that a target cannot take: refused, or dropped with a warning, as the configuration says."""

from collections.abc import Iterable
from typing import Any

import orjson
from headgate.v1.chat_pb2 import ChatCompletionSpec

from gateway_core.call import Call, Rewrite
from gateway_core.chat import chat_of
from gateway_core.errors import InvalidRequest, UnsupportedParameter


def refuse_or_drop(call: Call[Any], names: Iterable[str], because: str = "the provider {} does not take it") -> None:
    """Refuses or drops parameters, by the target's `on_unsupported`, for a reason in which {} is the provider's name.

    Raises UnsupportedParameter for the first that is refused, or that the call needs; or adds a warning for each to the
    call, or does nothing.
    """
    target = call.target
    assert target is not None, "the stage `fallback` sets the target"
    for name in names:
        sentence = because.format(target.provider)
        if target.on_unsupported == "reject" or name in call.needs:
            raise UnsupportedParameter(f"{name} is not supported: {sentence}.", param=name, provider=target.provider)
        if target.on_unsupported == "warn":
            call.rewrites.append(Rewrite(name, f"dropped, {sentence}"))


def found(call: Call[ChatCompletionSpec], unsupported: frozenset[str], *, extra_format: str) -> set[str]:
    """The names of the parameters of a call that its target cannot take and that the provider must leave out.

    Takes the names that the provider cannot take beside those of the target, and the wire format whose unknown fields
    it carries.
    """
    fields, target = chat_of(call).fields, call.target
    assert target is not None, "the stage `fallback` sets the target"
    if target.unsupported:
        unsupported |= target.unsupported
    if target.unsupported_while_reasoning and fields.get("reasoning_effort") != "none":
        unsupported |= target.unsupported_while_reasoning
    names = fields.keys() & unsupported
    if "extra_json" in fields:
        foreign = fields.get("extra_format", "openai") != extra_format
        names.update(name for name in extra_fields(fields["extra_json"]) if foreign or name in unsupported)
    return names


FIELDS = ChatCompletionSpec.DESCRIPTOR.fields_by_name

# Asking a descriptor takes longer than finding a name in a set.
OPTIONAL = frozenset(name for name, field in FIELDS.items() if field.has_presence)


def is_set(spec: ChatCompletionSpec, name: str) -> bool:
    """Whether a spec sets a field."""
    return name in spec if name in OPTIONAL else bool(getattr(spec, name))


def extra_fields(text: str) -> dict[str, object]:
    """The fields in an extra_json; raises InvalidRequest where it is not a JSON object."""
    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError:
        fields = None
    if not isinstance(fields, dict):
        raise InvalidRequest("extra_json must be a JSON object.", param="extra_json")
    return fields
