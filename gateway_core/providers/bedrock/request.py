"""A chat completion spec becomes the request of Converse and of ConverseStream.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html. Fields of Converse's own come
in extra_json under their names, of whatever format the rest is, and `thinking`, Anthropic's word, too.
"""

from typing import Any

import orjson
from headgate.v1 import message_pb2
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ChatMessage

from gateway_core.call import Rewrite
from gateway_core.providers.bedrock.conversation import Conversation
from gateway_core.providers.bedrock.family import Family, family, takes_signed_thoughts, thinking
from gateway_core.providers.bedrock.thought import lacks_thoughts
from gateway_core.providers.bedrock.tool import declared, tool_blocks, tool_choice
from gateway_core.providers.bedrock.written import Written
from gateway_core.unsupported import extra_fields
from gateway_core.upstream.json_text import Document, json_object

FORMAT = "bedrock"

OWN = frozenset(
    {
        "additionalModelRequestFields", "additionalModelResponseFieldPaths", "guardrailConfig", "performanceConfig",
        "promptVariables", "requestMetadata",
    }
)  # fmt: skip
"""Fields of Converse's own that are carried."""

TIERS = frozenset({"default", "flex", "priority", "reserved"})

MODELS = "additionalModelRequestFields"
THINKING = "thinking"

DECLARED = "the tools that the conversation called were declared without their schemas, Bedrock wants them declared"
FORCED = "the provider {} does not let a model think that must call a tool"
UNSIGNED = "the provider {} demands the signed reasoning of the turn that goes on, and the request has none"
BEGUN = "the provider {} does not let a model think about an answer that has begun"
UNTOLD = "the provider {} has no word for it, or none is known for this model"
UNSAMPLED = "this model of the provider {} does not take it"
EITHER = "this model of the provider {} takes it only without temperature"
THINKS = "the provider {} does not take it for a model that thinks"
UNPREFILLED = "this model of the provider {} begins its answers itself"


def written(spec: ChatCompletionSpec, model: str, left_out: frozenset[str] = frozenset()) -> Written:
    """The request; takes the names of parameters to leave out. Raises InvalidRequest for what cannot be written."""
    asked = without(spec, left_out)
    found = Written()
    kin = family(model)
    conversation = Conversation(found, takes_signed=takes_signed_thoughts(model))
    conversation.add(asked.messages)
    if asked.HasField("prefill"):
        if kin.takes_prefill:
            conversation.say("assistant", [{"text": asked.prefill}])
        else:
            found.leave_out("prefill", UNPREFILLED)
    document = found.document
    document["messages"] = conversation.messages
    if conversation.system:
        document["system"] = conversation.system
    fields = effort(found, asked, kin) if asked.HasField("reasoning_effort") else {}
    put_sampling(found, asked, kin, fields)
    put_tools(found, asked, list(conversation.tools))
    put_format(found, asked)
    if asked.service_tier in TIERS:
        document["serviceTier"] = {"type": asked.service_tier}
    elif asked.service_tier not in ("", "auto"):
        found.leave_out("service_tier")
    if asked.metadata:
        document["requestMetadata"] = dict(asked.metadata)
    if fields:
        document[MODELS] = fields
    put_extra(found, asked, left_out)
    return found


def without(spec: ChatCompletionSpec, left_out: frozenset[str]) -> ChatCompletionSpec:
    """A spec without some parameters; itself where it has none of them."""
    unwanted = [field.name for field, _ in spec.ListFields() if field.name in left_out]
    if not unwanted:
        return spec
    copy = ChatCompletionSpec()
    copy.CopyFrom(spec)
    for name in unwanted:
        copy.ClearField(name)
    return copy


def put_sampling(found: Written, spec: ChatCompletionSpec, kin: Family, fields: Document) -> None:
    """Sets how to sample, and when to end. Takes what the family is told beside, and puts top_k there."""
    config: Document = {}
    if (limit := max_tokens(spec)) is not None:
        config["maxTokens"] = limit
    because = None if kin.takes_sampling else UNSAMPLED
    if kin.is_claude and fields.get(THINKING, {}).get("type") in ("adaptive", "enabled"):
        because = THINKS
    for name, word in (("temperature", "temperature"), ("top_p", "topP"), ("top_k", "")):
        if not spec.HasField(name):
            continue
        if because is not None and (not word or getattr(spec, name) != 1):
            found.leave_out(name, because)
        elif name == "top_p" and spec.HasField("temperature") and not kin.takes_both:
            found.leave_out(name, EITHER)
        elif word:
            config[word] = getattr(spec, name)
        else:
            put_top_k(found, spec.top_k, kin, fields)
    if spec.stop:
        config["stopSequences"] = list(spec.stop)
    if config:
        found.document["inferenceConfig"] = config


def put_top_k(found: Written, top_k: int, kin: Family, fields: Document) -> None:
    """Sets top_k where the family has it."""
    if not kin.top_k:
        found.leave_out("top_k", "its place is not known for this model of the provider {}")
        return
    inner = fields
    for name in kin.top_k[:-1]:
        inner = inner.setdefault(name, {})
    inner[kin.top_k[-1]] = top_k


def max_tokens(spec: ChatCompletionSpec) -> int | None:
    """Most tokens of the answer."""
    for name in ("max_completion_tokens", "max_tokens"):
        if spec.HasField(name):
            return int(getattr(spec, name))
    return None


def put_tools(found: Written, spec: ChatCompletionSpec, called: list[str]) -> None:
    """Sets the tools and the choice among them. Nothing forbids tools but that there are none."""
    choice = spec.tool_choice if spec.HasField("tool_choice") else None
    is_forbidden = choice is not None and choice.mode == "none"
    if is_forbidden and not called:
        return
    tools = [block for n, tool in enumerate(spec.tools) for block in tool_blocks(tool, f"tools[{n}]", found)]
    if not tools and called:
        tools = declared(called)
        found.rewrites.append(Rewrite("tools", DECLARED))
    if not tools:
        return
    found.document["toolConfig"] = {"tools": tools}
    if choice is not None:
        chosen = tool_choice(choice)
        if chosen is None:
            found.leave_out("tool_choice")
        else:
            found.document["toolConfig"]["toolChoice"] = chosen


def put_format(found: Written, spec: ChatCompletionSpec) -> None:
    """Sets the form of the answer: a schema, to which Bedrock always holds the model."""
    form = spec.response_format
    if form.type == "json_schema" and form.json_schema.schema_json:
        path = "response_format.json_schema"
        asked = json_object(form.json_schema.schema_json, f"{path}.schema_json")
        closed = found.closed(asked, path)
        text = form.json_schema.schema_json if closed == asked else orjson.dumps(closed).decode()
        schema: Document = {"schema": text, "name": form.json_schema.name}
        if form.json_schema.description:
            schema["description"] = form.json_schema.description
        found.extra(form.json_schema.extra_json, path)
        structure = {"jsonSchema": schema}
        found.document["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": structure}}
    elif form.type not in ("", "text"):
        found.leave_out("response_format")
    found.extra(form.extra_json, "response_format")


def effort(found: Written, spec: ChatCompletionSpec, kin: Family) -> Document:
    """How much to reason, for additionalModelRequestFields."""
    told = thinking(kin, spec.reasoning_effort, max_tokens(spec))
    if told is None:
        if spec.reasoning_effort != "none" or kin.reasoning is not None:
            found.leave_out("reasoning_effort", UNTOLD)
        return {}
    if kin.is_claude and told.asked != "none" and (because := hindrance(spec, kin)):
        found.leave_out("reasoning_effort", because)
        return {}
    if told.asked != spec.reasoning_effort:
        reason = f"changed to {told.asked}, the model does not know {spec.reasoning_effort}"
        found.rewrites.append(Rewrite("reasoning_effort", reason))
    return told.fields


def hindrance(spec: ChatCompletionSpec, kin: Family) -> str | None:
    """Why Claude must not be asked to think; None where it may be."""
    if spec.tool_choice.mode == "required" or spec.tool_choice.HasField("function_name"):
        return FORCED
    if spec.HasField("prefill") and kin.takes_prefill:
        return BEGUN
    last = last_answer(spec.messages)
    return UNSIGNED if kin.reasoning == "budget" and last is not None and lacks_thoughts(last) else None


def last_answer(messages: Any) -> ChatMessage | None:
    """The assistant's message of the turn that goes on: the one that only results of its calls follow."""
    for message in reversed(messages):
        if message.role == message_pb2.ROLE_ASSISTANT:
            return message if isinstance(message, ChatMessage) else None
        if message.role != message_pb2.ROLE_TOOL:
            return None
    return None


def put_extra(found: Written, spec: ChatCompletionSpec, left_out: frozenset[str]) -> None:
    """Puts in what the contract only carries; it never replaces what is there, but fields of models are joined."""
    if not spec.extra_json:
        return
    for name, value in extra_fields(spec.extra_json).items():
        if name in left_out:
            continue
        if name == THINKING:
            found.document.setdefault(MODELS, {}).setdefault(THINKING, value)
        elif name == MODELS and isinstance(value, dict):
            found.document[MODELS] = {**value, **found.document.get(MODELS, {})}
        elif name in OWN:
            found.document.setdefault(name, value)


def is_satisfied(spec: ChatCompletionSpec, name: str) -> bool:
    """Whether a parameter that Converse does not know asks for what it does anyway, or is carried."""
    value: Any = getattr(spec, name, None)
    match name:
        case "n":
            return bool(value == 1)
        case "parallel_tool_calls":
            return bool(value)
        case "store" | "logprobs" | "presence_penalty" | "frequency_penalty" | "top_logprobs":
            return not value
        case "modalities":
            return list(value) == ["text"]
        case "stream_options":
            # The form of the usage is Headgate's own matter.
            return all(option.name == "include_usage" for option, _ in value.ListFields())
    return name in OWN or name == THINKING
