"""Parameters that a target cannot take: refused, or dropped with a warning, as the configuration says."""

from collections.abc import Iterator

import orjson
from headgate.v1.chat_pb2 import ChatCompletionSpec

from gateway_core.call import Call, Rewrite
from gateway_core.errors import InvalidRequest, UnsupportedParameter


def refuse_or_drop(call: Call[ChatCompletionSpec], unsupported: frozenset[str], *, extra_format: str) -> frozenset[str]:
    """The parameters of a call that its target cannot take and that the provider must leave out.

    Takes the names that the provider cannot take beside those of the target, and the wire format whose unknown fields
    it carries. By the target's `on_unsupported` raises UnsupportedParameter, or adds a warning to the call, or not.
    """
    target = call.target
    assert target is not None, "the stage `fallback` sets the target"
    dropped = frozenset(found(call.request, unsupported | target.unsupported, extra_format))
    for name in sorted(dropped):
        sentence = f"the provider {target.provider} does not take it"
        if target.on_unsupported == "reject":
            raise UnsupportedParameter(f"{name} is not supported: {sentence}.", param=name, provider=target.provider)
        if target.on_unsupported == "warn":
            call.rewrites.append(Rewrite(name, f"dropped, {sentence}"))
    return dropped


def found(spec: ChatCompletionSpec, unsupported: frozenset[str], extra_format: str) -> Iterator[str]:
    """The names among the unsupported ones that a spec sets, and its unknown fields where they are not carried."""
    for field, _ in spec.ListFields():
        if field.name in unsupported:
            yield field.name
    if spec.extra_json:
        foreign = (spec.extra_format or "openai") != extra_format
        for name in extra_fields(spec.extra_json):
            if foreign or name in unsupported:
                yield name


def extra_fields(text: str) -> dict[str, object]:
    """The fields in an extra_json; raises InvalidRequest where it is not a JSON object."""
    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError:
        fields = None
    if not isinstance(fields, dict):
        raise InvalidRequest("extra_json must be a JSON object.", param="extra_json")
    return fields
