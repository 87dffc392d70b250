"""A chat completion request in OpenAI's JSON becomes the contract."""

from collections.abc import Callable
from typing import Any, TypeVar

from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ROLE_USER, ChatMessage

from rest_bridge.body import Fields, InvalidBody, checked_number, checked_text, missing, mistyped
from rest_bridge.dialects.openai.message import chat_message
from rest_bridge.dialects.openai.option import (
    audio_options,
    moderation,
    prediction,
    prompt_cache_options,
    response_format,
    stream_options,
    web_search_options,
)
from rest_bridge.dialects.openai.plain import plain_message, put_plain_spec
from rest_bridge.dialects.openai.scalar import scalars
from rest_bridge.dialects.openai.tool import function_choice, function_tool, tool, tool_choice

Part = TypeVar("Part")


def is_stream(body: dict[str, Any]) -> bool:
    """Whether the answer is asked for in chunks; raises InvalidBody where `stream` is no boolean."""
    stream = body.get("stream")
    if stream is None or type(stream) is bool:
        return stream or False
    raise mistyped("stream", "a boolean", stream)


def includes_usage(body: dict[str, Any]) -> bool:
    """Whether the usage is asked for in a chunk of its own; raises InvalidBody where `stream_options` is wrong."""
    options = Fields(body).fields("stream_options")
    return bool(options and options.boolean("include_usage"))


def chat_completion_spec(body: dict[str, Any]) -> ChatCompletionSpec:
    """What a decoded body asks for; raises InvalidBody, which names the field at fault.

    An empty array or map is as absent, and so is null; `stream` is the endpoint's. A `prompt` without `messages` is
    one user message. What has no field in the contract is carried, at every level, as it is. Source: OpenAI's
    CompletionCreateParams; Headgate's own: `prefill`, `top_k` and `min_p` (which vLLM, llama.cpp and others share).
    """
    spec = ChatCompletionSpec()
    return spec if put_plain_spec(body, spec) else any_spec(body)


def any_spec(body: dict[str, Any]) -> ChatCompletionSpec:
    """What a body asks for, read field by field."""
    fields = Fields(body)
    fields.drop("stream")
    return ChatCompletionSpec(
        model=named_model(fields),
        messages=messages(fields),
        **scalars(fields),
        logit_bias=logit_bias(fields),
        stop=stop(fields),
        **tools(fields),
        **forms(fields),
        metadata=metadata(fields),
        extra_json=fields.extra_json(),
    )


def named_model(fields: Fields) -> str:
    """The model that is asked."""
    model = fields.required_text("model")
    if not model:
        raise InvalidBody("Invalid 'model': expected the name of a model, but got an empty string.", "model")
    return model


def messages(fields: Fields) -> list[ChatMessage]:
    """The conversation."""
    if "messages" not in fields and "prompt" in fields:
        fields.drop("messages")
        return [ChatMessage(role=ROLE_USER, text=fields.text("prompt"))]
    if "messages" not in fields:
        raise missing("messages")
    conversation = [
        plain_message(document) or chat_message(Fields(document, path)) for document, path in fields.items("messages")
    ]
    if not conversation:
        raise InvalidBody("Invalid 'messages': expected at least one message, but got an empty array.", "messages")
    return conversation


def logit_bias(fields: Fields) -> dict[str, float]:
    """How much more or less probable tokens are, by their ids."""
    return {
        token: checked_number(bias, -100, 100, f"logit_bias.{token}")
        for token, bias in fields.entries("logit_bias").items()
    }


def stop(fields: Fields) -> list[str]:
    """The texts at which the answer ends, given as one or as an array."""
    value = fields.peek("stop")
    if type(value) is str:
        return [fields.required_text("stop")]
    if value is not None and type(value) is not list:
        raise mistyped("stop", "a string or an array", value)
    return fields.texts("stop")


def tools(fields: Fields) -> dict[str, Any]:
    """What the model may call, in the form with tools and in the one before it."""
    return {
        "tools": [tool(entry) for entry in fields.objects("tools")],
        "tool_choice": tool_choice(fields),
        "functions": [function_tool(entry) for entry in fields.objects("functions")],
        "function_call": function_choice(fields),
    }


def forms(fields: Fields) -> dict[str, Any]:
    """Which form the answer has, and what the provider does beside it."""
    return {
        "stream_options": part(fields, "stream_options", stream_options),
        "response_format": part(fields, "response_format", response_format),
        "modalities": fields.texts("modalities"),
        "audio": part(fields, "audio", audio_options),
        "prediction": part(fields, "prediction", prediction),
        "prompt_cache_options": part(fields, "prompt_cache_options", prompt_cache_options),
        "web_search_options": part(fields, "web_search_options", web_search_options),
        "moderation": part(fields, "moderation", moderation),
    }


def metadata(fields: Fields) -> dict[str, str]:
    """What the provider keeps with the answer."""
    return {name: checked_text(value, f"metadata.{name}") for name, value in fields.entries("metadata").items()}


def part(fields: Fields, name: str, reader: Callable[[Fields], Part]) -> Part | None:
    """An object among the options; None where it is absent."""
    value = fields.fields(name)
    return None if value is None else reader(value)
