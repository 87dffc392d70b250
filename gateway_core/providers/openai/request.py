"""A chat completion spec becomes OpenAI's JSON."""

from collections.abc import Callable
from typing import Any

from headgate.v1.chat_pb2 import (
    AudioOptions,
    Moderation,
    Prediction,
    PromptCacheOptions,
    ResponseFormat,
    StreamOptions,
    WebSearchOptions,
)

from gateway_core.chat import NAMES, Chat
from gateway_core.errors import InvalidRequest
from gateway_core.providers.openai.carried import Carried
from gateway_core.providers.openai.message import ROLES, content_parts, message_document, plain
from gateway_core.providers.openai.tool import function_choice, function_tool, tool_choice, tool_document
from gateway_core.upstream.json_text import Document, documents, json_object, placed

# What is not written under its own name, or not by its own value alone.
APART = frozenset({"model", "messages", "stream_options", "extra_json", "extra_format", "prefill"})


def request_document(
    chat: Chat,
    *,
    stream: bool,
    left_out: frozenset[str] = frozenset(),
    carried: Carried | None = None,
) -> Document:
    """The body of a request to an OpenAI-compatible host. Source: OpenAI's CompletionCreateParams.

    The place of the model's name is left empty, since the host has one of its own for it. Takes the
    names of parameters to leave out, and what tells what could not be carried. A stream is always asked for its usage.
    Raises InvalidRequest where JSON text in the request is none.
    """
    fields = chat.fields
    carried = carried or Carried(fields.get("extra_format", ""))
    document: Document = {"model": "", "messages": messages(chat, carried)}
    for name, value in fields.items():
        if name in APART or name in left_out:
            continue
        written = WRITERS[name](value, carried) if name in WRITERS else value
        if written is not None:
            document[name] = written
    if stream:
        document["stream"] = True
        if "stream_options" not in left_out:
            given = fields.get("stream_options")
            options = {} if given is None else stream_options(given, carried)
            document["stream_options"] = {**options, "include_usage": True}
    if "extra_json" in fields and fields.get("extra_format", "openai") == "openai":
        for name, value in json_object(fields["extra_json"], "extra_json").items():
            if name not in left_out and name not in RESERVED:
                document.setdefault(name, value)
    return document


def plain_document(chat: Chat, model: str) -> Document | None:
    """The same of a chat of nothing but fields that are written AS_THEY_ARE, not streamed; takes the model's name.

    None where a message has more than a role and a text.
    """
    document: Document = dict(chat.fields)
    document["model"] = model
    written = document["messages"] = []
    for turn in chat.turns:
        if turn is None:
            return None
        role, text = turn
        written.append({"role": ROLES[role], "content": text})
    return document


RESERVED = frozenset({"stream", "stream_options"})
"""What the provider decides, whatever is carried."""


def stream_options(options: StreamOptions, carried: Carried) -> Document:
    """Options of a streamed answer."""
    return plain(options, carried, "stream_options")


def messages(chat: Chat, carried: Carried) -> list[Document]:
    """The conversation."""
    written: list[Document] = []
    for turn in chat.turns:
        if turn is None:
            index = len(written)
            try:
                written.append(message_document(chat.spec.messages[index], carried))
            except InvalidRequest as error:
                raise placed(error, "messages", index) from None
        else:
            written.append({"role": ROLES[turn[0]], "content": turn[1]})
    return written


def tools(offered: Any, carried: Carried) -> list[Document] | None:
    """The tools; None where no tool is left."""
    return documents(offered, "tools", lambda tool: tool_document(tool, carried)) or None


def functions(offered: Any, carried: Carried) -> list[Document]:
    """The functions, in the form before tools."""
    return documents(offered, "functions", lambda function: [function_tool(function, carried, "functions")])


def response_format(form: ResponseFormat, carried: Carried) -> Document:
    """The form that the answer must have."""
    document: Document = {"type": form.type}
    if form.HasField("json_schema"):
        schema = form.json_schema
        path = "response_format.json_schema"
        described: Document = {"name": schema.name}
        if schema.HasField("description"):
            described["description"] = schema.description
        if schema.HasField("schema_json"):
            described["schema"] = json_object(schema.schema_json, f"{path}.schema_json")
        if schema.HasField("strict"):
            described["strict"] = schema.strict
        document["json_schema"] = carried.merge(described, schema.extra_json, path)
    return carried.merge(document, form.extra_json, "response_format")


def audio(options: AudioOptions, carried: Carried) -> Document:
    """How a spoken answer sounds."""
    document: Document = {}
    if options.HasField("voice_name"):
        document["voice"] = options.voice_name
    elif options.HasField("voice_id"):
        document["voice"] = {"id": options.voice_id}
    if options.format:
        document["format"] = options.format
    return carried.merge(document, options.extra_json, "audio")


def prediction(expected: Prediction, carried: Carried) -> Document:
    """Text that the answer is expected to repeat."""
    document: Document = {"type": expected.type}
    if expected.HasField("text"):
        document["content"] = expected.text
    elif expected.HasField("parts"):
        document["content"] = content_parts(expected.parts, carried, "prediction.content")
    return carried.merge(document, expected.extra_json, "prediction")


def prompt_cache_options(options: PromptCacheOptions, carried: Carried) -> Document:
    """Options of the prompt cache."""
    return plain(options, carried, "prompt_cache_options")


def web_search_options(options: WebSearchOptions, carried: Carried) -> Document:
    """Options of the provider's own web search."""
    document: Document = {}
    if options.HasField("search_context_size"):
        document["search_context_size"] = options.search_context_size
    if options.HasField("user_location"):
        place = options.user_location
        path = "web_search_options.user_location"
        document["user_location"] = {"type": place.type}
        if place.HasField("approximate"):
            document["user_location"]["approximate"] = plain(place.approximate, carried, f"{path}.approximate")
        carried.merge(document["user_location"], place.extra_json, path)
    return carried.merge(document, options.extra_json, "web_search_options")


def moderation(asked: Moderation, carried: Carried) -> Document:
    """Moderation that the provider runs."""
    document: Document = {"model": asked.model}
    if asked.HasField("policy"):
        policy: Document = {}
        if asked.policy.HasField("input_mode"):
            policy["input"] = {"mode": asked.policy.input_mode}
        if asked.policy.HasField("output_mode"):
            policy["output"] = {"mode": asked.policy.output_mode}
        document["policy"] = carried.merge(policy, asked.policy.extra_json, "moderation.policy")
    return carried.merge(document, asked.extra_json, "moderation")


def logit_bias(biases: Any, _: Carried) -> dict[str, float]:
    """Biases; whole numbers are written as such, as hosts demand."""
    return {token: int(bias) if bias.is_integer() else bias for token, bias in biases.items()}


def entries(values: Any, _: Carried) -> dict[str, str]:
    """A map of strings."""
    return dict(values)


def texts(values: Any, _: Carried) -> list[str]:
    """A list of strings."""
    return list(values)


WRITERS: dict[str, Callable[[Any, Carried], Any]] = {
    "tools": tools,
    "tool_choice": tool_choice,
    "functions": functions,
    "function_call": function_choice,
    "stop": texts,
    "modalities": texts,
    "logit_bias": logit_bias,
    "metadata": entries,
    "response_format": response_format,
    "audio": audio,
    "prediction": prediction,
    "prompt_cache_options": prompt_cache_options,
    "web_search_options": web_search_options,
    "moderation": moderation,
}
"""For the fields that are not written as they are."""

AS_THEY_ARE = frozenset(set(NAMES.values()) - APART - WRITERS.keys() | {"model", "messages"})
"""Fields that are written by their own values alone."""
