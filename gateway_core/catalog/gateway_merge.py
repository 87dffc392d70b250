"""What is sent for a request that asks a gateway: the request and the gateway's version, merged (pure)."""

from collections.abc import Sequence
from typing import Any

import orjson
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import (
    ROLE_ASSISTANT,
    ROLE_DEVELOPER,
    ROLE_SYSTEM,
    ROLE_USER,
    ChatMessage,
    ContentParts,
)

from gateway_core.call import Rewrite
from gateway_core.catalog.gateway import Version
from gateway_core.catalog.gateway_check import PROMPT
from gateway_core.chat import Chat, read
from gateway_core.unsupported import FIELDS, extra_fields, is_set

INSTRUCTING = frozenset({ROLE_SYSTEM, ROLE_DEVELOPER})
TOKEN_LIMITS = ("max_tokens", "max_completion_tokens")
"""Two spellings of one parameter: a request's replaces the gateway's in whichever it is."""
TOOLS = ("tools", "tool_choice", "functions", "function_call", "parallel_tool_calls")
STANDS = "the gateway's value stands, which a request may not override"


Merged = tuple[Chat, Sequence[Rewrite], str]
"""A request as it is sent; what of it counted less than the gateway; and what the answer is to begin with, before what
the model says (empty: nothing)."""


def merged(chat: Chat, version: Version, *, is_public: bool = False) -> Merged:
    """A request with what its gateway adds. A public key gets none of the gateway's tools.

    The request is left as it is. Raises InvalidRequest where its extra_json is no JSON object.
    """
    if not version.is_plain:
        return completed(chat.spec, version, is_public=is_public)
    turns = chat.turns
    if version.instructions is not None:
        at = place(chat.spec.messages) if version.is_behind else 0
        turns = [*turns[:at], version.turn, *turns[at:]] if at else [version.turn, *turns]
    fields = dict(chat.fields)
    fields["model"], fields["messages"] = version.model, turns
    return Chat(fields, turns, None, lambda: completed(chat.spec, version)[0].spec), (), ""


def completed(request: ChatCompletionSpec, version: Version, *, is_public: bool = False) -> Merged:
    """As `merged` says, for any gateway."""
    spec = ChatCompletionSpec()
    spec.CopyFrom(request)
    rewrites: list[Rewrite] = []
    for name in version.parameters:
        if not (is_public and name in TOOLS):
            merge_parameter(spec, version, name, rewrites)
    spec.model = version.model
    if version.template:
        for message in spec.messages:
            if message.role == ROLE_USER:
                apply_template(message, version.template)
    if version.instructions is not None:
        at = place(spec.messages) if version.is_behind else 0
        spec.messages.insert(at, version.instructions)
    echoed = begun(spec, version, rewrites) if version.is_begun else ""
    return read(spec), rewrites, echoed


def merge_parameter(spec: ChatCompletionSpec, version: Version, name: str, rewrites: list[Rewrite]) -> None:
    """Sets a parameter of the gateway, where the request may not say otherwise or does not."""
    given = version.message.parameters
    if name in ("extra_json", "extra_format"):
        merge_extra(spec, version, rewrites)
        return
    for spelling in TOKEN_LIMITS if name in TOKEN_LIMITS else (name,):
        if not is_set(spec, spelling):
            continue
        if version.may_override(spelling):
            return
        if spelling != name or getattr(spec, spelling) != getattr(given, name):
            rewrites.append(Rewrite(spelling, STANDS))
        spec.ClearField(spelling)
    copy(given, spec, name)


def copy(source: ChatCompletionSpec, target: ChatCompletionSpec, name: str) -> None:
    """Sets a field as it is in another spec."""
    field: Any = FIELDS[name]
    value = getattr(source, name)
    if field.is_repeated:
        getattr(target, name).MergeFrom(value)
    elif field.message_type is not None:
        getattr(target, name).CopyFrom(value)
    else:
        setattr(target, name, value)


def merge_extra(spec: ChatCompletionSpec, version: Version, rewrites: list[Rewrite]) -> None:
    """Merges the fields that the contract does not know, each by itself, where both are of one format."""
    given = version.message.parameters
    if not spec.extra_json:
        spec.extra_json, spec.extra_format = given.extra_json, given.extra_format
        return
    if (spec.extra_format or "openai") != (given.extra_format or "openai"):
        rewrites.append(Rewrite("extra_json", "of another format than the gateway's, which stands"))
        spec.extra_json, spec.extra_format = given.extra_json, given.extra_format
        return
    fields = extra_fields(spec.extra_json)
    for name, value in extra_fields(given.extra_json).items():
        if name in fields and version.may_override(name):
            continue
        if name in fields and fields[name] != value:
            rewrites.append(Rewrite(name, STANDS))
        fields[name] = value
    spec.extra_json = orjson.dumps(fields).decode()


def place(messages: Sequence[ChatMessage]) -> int:
    """Where behind the request's own instructions those of the gateway stand."""
    first = (index for index, message in enumerate(messages) if message.role not in INSTRUCTING)
    return next(first, len(messages))


def apply_template(message: ChatMessage, template: str) -> None:
    """Puts a template around what a user wrote: where that is several parts, around all of their texts."""
    if not message.HasField("parts"):
        message.text = template.replace(PROMPT, message.text)
        return
    texts = [part for part in message.parts.parts if part.WhichOneof("part") == "text"]
    if len(texts) == 1:
        texts[0].text = template.replace(PROMPT, texts[0].text)
    elif texts:
        written = "\n".join(part.text for part in texts)
        before, _, after = template.partition(PROMPT)
        texts[0].text = before + texts[0].text
        texts[-1].text += after.replace(PROMPT, written)
    else:
        # A picture alone: what the template says of it stands before it.
        parts = ContentParts()
        parts.parts.add(text=template.replace(PROMPT, ""))
        parts.parts.extend(message.parts.parts)
        message.parts.CopyFrom(parts)


def begun(spec: ChatCompletionSpec, version: Version, rewrites: list[Rewrite]) -> str:
    """Adds the beginning of the answer as the assistant's last message, which OpenAI-compatible hosts continue.

    What the answer is to begin with. A beginning of the request's own counts where it may be overridden.
    """
    gateway = version.message
    has_own = spec.HasField("prefill") or spec.messages[-1].role == ROLE_ASSISTANT
    if has_own and version.may_override("prefill"):
        return ""
    if spec.HasField("prefill"):
        rewrites.append(Rewrite("prefill", STANDS))
        spec.ClearField("prefill")
    elif has_own:
        rewrites.append(Rewrite("prefill", "the gateway's is left out: the request ends with the assistant's words"))
        return ""
    spec.messages.add(role=ROLE_ASSISTANT, text=gateway.prefill)
    return gateway.prefill if gateway.echo_prefill else ""
