"""Parameters that a target cannot take: refused, or dropped with a warning, as the configuration says."""

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
    dropped = found(call.request, unsupported | target.unsupported, extra_format)
    for name in sorted(dropped):
        sentence = f"the provider {target.provider} does not take it"
        if target.on_unsupported == "reject":
            raise UnsupportedParameter(f"{name} is not supported: {sentence}.", param=name, provider=target.provider)
        if target.on_unsupported == "warn":
            call.rewrites.append(Rewrite(name, f"dropped, {sentence}"))
    return dropped


def found(spec: ChatCompletionSpec, unsupported: frozenset[str], extra_format: str) -> frozenset[str]:
    """The names among the unsupported ones that a spec sets, and its unknown fields where they are not carried."""
    names = [name for name in unsupported if name in FIELDS and is_set(spec, name)]
    if spec.extra_json:
        foreign = (spec.extra_format or "openai") != extra_format
        names += [name for name in extra_fields(spec.extra_json) if foreign or name in unsupported]
    return frozenset(names)


FIELDS = ChatCompletionSpec.DESCRIPTOR.fields_by_name


def is_set(spec: ChatCompletionSpec, name: str) -> bool:
    """Whether a spec sets a field."""
    return spec.HasField(name) if FIELDS[name].has_presence else bool(getattr(spec, name))


def extra_fields(text: str) -> dict[str, object]:
    """The fields in an extra_json; raises InvalidRequest where it is not a JSON object."""
    try:
        fields = orjson.loads(text)
    except orjson.JSONDecodeError:
        fields = None
    if not isinstance(fields, dict):
        raise InvalidRequest("extra_json must be a JSON object.", param="extra_json")
    return fields
