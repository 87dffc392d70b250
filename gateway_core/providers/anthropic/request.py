"""A chat completion spec becomes a request of Anthropic's.

Source: https://platform.claude.com/docs/en/api/messages/create (MessageCreateParams).
"""

from typing import Any

from headgate.v1.chat_pb2 import ChatCompletionSpec

from gateway_core.providers.anthropic.carried import FORMAT, SHARED, Carried
from gateway_core.providers.anthropic.conversation import conversation
from gateway_core.providers.anthropic.facts import Facts
from gateway_core.providers.anthropic.schema import told_schema
from gateway_core.providers.anthropic.thinking import is_thinking, think
from gateway_core.providers.anthropic.tool import is_forced, tool_choice, tools
from gateway_core.upstream.json_text import Document, json_object

FOREIGN = SHARED | {"thinking"}
"""Anthropic's fields that callers of other formats write into their requests."""

RESERVED = frozenset({"model", "stream"})
"""What the provider decides, whatever is carried."""

TIERS = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}

HOTTEST = 1.0
"""Of temperatures, where OpenAI's go up to 2."""

NO_PREFILL = "the model does not continue a beginning of the answer"
NO_SAMPLING = "the model samples as it does, and takes no words about it"
NOT_WHILE_THINKING = "the provider {} does not take it while the model thinks"
NOT_BOTH = "the model takes temperature or top_p, not both"
NO_SCHEMA = "the provider {} knows no JSON without a schema"
NO_SCHEMAS = "the model takes no schema of its answer"


def request_document(
    spec: ChatCompletionSpec,
    model: str,
    facts: Facts,
    carried: Carried,
    left_out: frozenset[str] = frozenset(),
) -> Document:
    """The body of a request.

    Takes the model as the provider names it, what it takes, what collects what could not be said, and the names of
    parameters to leave out. Raises InvalidRequest where JSON text in the spec is none.
    """
    if left_out:
        copy = ChatCompletionSpec()
        copy.CopyFrom(spec)
        for name in left_out & set(ChatCompletionSpec.DESCRIPTOR.fields_by_name):
            copy.ClearField(name)
        spec = copy
    if spec.prefill and not facts.takes_prefill:
        carried.leave_out("prefill", NO_PREFILL)
    prefill = spec.prefill if facts.takes_prefill else ""
    document: Document = {"model": model, "max_tokens": most_tokens(spec, facts)}
    document |= conversation(spec.messages, prefill, carried, facts)
    choice = tool_choice(spec, carried)
    if written := tools(spec, carried):
        document["tools"] = written
        if choice is not None:
            document["tool_choice"] = choice
    response_format(document, spec, facts, carried)
    if spec.HasField("reasoning_effort"):
        think(document, spec, facts, carried, forced=is_forced(choice))
    if spec.extra_json:
        merge_extra(document, spec, left_out)
    sampling(document, spec, facts, carried)
    rest(document, spec, carried)
    return document


def most_tokens(spec: ChatCompletionSpec, facts: Facts) -> int:
    """The most tokens of the answer, which the provider must be told."""
    for name in ("max_completion_tokens", "max_tokens"):
        if spec.HasField(name):
            return int(getattr(spec, name))
    return facts.max_output_tokens


def response_format(document: Document, spec: ChatCompletionSpec, facts: Facts, carried: Carried) -> None:
    """Puts in the form that the answer must have."""
    form = spec.response_format
    if not spec.HasField("response_format") or form.type == "text":
        return
    if form.type != "json_schema" or not form.json_schema.schema_json:
        carried.leave_out("response_format", NO_SCHEMA)
    elif not facts.takes_json_schema:
        carried.leave_out("response_format", NO_SCHEMAS)
    else:
        path = "response_format.json_schema"
        schema = told_schema(json_object(form.json_schema.schema_json, f"{path}.schema_json"), carried, path)
        if form.json_schema.description:
            schema.setdefault("description", form.json_schema.description)
        document.setdefault("output_config", {})["format"] = {"type": "json_schema", "schema": schema}


def sampling(document: Document, spec: ChatCompletionSpec, facts: Facts, carried: Carried) -> None:
    """Puts in how to sample, as far as the model takes words about it; defaults are never in the way."""
    given: dict[str, Any] = {
        name: getattr(spec, name) for name in ("temperature", "top_p", "top_k") if spec.HasField(name)
    }
    if not facts.takes_sampling:
        for name in given:
            if name == "top_k" or given[name] != 1:
                carried.leave_out(name, NO_SAMPLING)
        return
    if given.get("temperature", 0) > HOTTEST:
        given["temperature"] = HOTTEST
        carried.change("temperature", "changed to 1, the most that the provider takes")
    if is_thinking(document):
        for name in [name for name in given if name != "top_p" or given[name] < 0.95]:
            if given.pop(name) != 1 or name == "top_k":
                carried.leave_out(name, NOT_WHILE_THINKING)
    if not facts.takes_temperature_with_top_p and {"temperature", "top_p"} <= given.keys() and given.pop("top_p") != 1:
        carried.leave_out("top_p", NOT_BOTH)
    document.update(given)


def rest(document: Document, spec: ChatCompletionSpec, carried: Carried) -> None:
    """Puts in what is said almost by its own name."""
    if spec.stop:
        document["stop_sequences"] = list(spec.stop)
    user = spec.safety_identifier or spec.user or spec.metadata.get("user_id", "")
    if user:
        document.setdefault("metadata", {"user_id": user})
    if any(name != "user_id" for name in spec.metadata):
        carried.leave_out("metadata")
    if spec.service_tier in TIERS:
        document["service_tier"] = TIERS[spec.service_tier]
    elif spec.service_tier:
        carried.leave_out("service_tier")


def merge_extra(document: Document, spec: ChatCompletionSpec, left_out: frozenset[str]) -> None:
    """Puts in the unknown fields, which never replace what is there; in objects, name by name."""
    fits = spec.extra_format == FORMAT
    for name, value in json_object(spec.extra_json, "extra_json").items():
        if name in left_out or name in RESERVED or not (fits or name in FOREIGN):
            continue
        known = document.setdefault(name, value)
        if isinstance(known, dict) and isinstance(value, dict) and known is not value:
            for inner, each in value.items():
                known.setdefault(inner, each)
