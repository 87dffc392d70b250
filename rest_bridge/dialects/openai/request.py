"""A chat completion request in OpenAI's JSON becomes the contract."""

from collections.abc import Callable
from typing import Any, TypeVar

from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ROLE_USER, ChatMessage

from rest_bridge.body import INT32, Fields, InvalidBody, checked_number, checked_text, missing, mistyped
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
from rest_bridge.dialects.openai.tool import function_choice, function_tool, tool, tool_choice

Part = TypeVar("Part")


def is_stream(body: dict[str, Any]) -> bool:
    """Whether the answer is asked for in chunks; raises InvalidBody where `stream` is no boolean."""
    return Fields(body).boolean("stream") or False


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
    fields = Fields(body)
    fields.drop("stream")
    return ChatCompletionSpec(
        model=named_model(fields),
        messages=messages(fields),
        prefill=fields.text("prefill"),
        **sampling(fields),
        **limits(fields),
        **tools(fields),
        **forms(fields),
        **labels(fields),
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
    conversation = [chat_message(message) for message in fields.objects("messages")]
    if not conversation:
        raise InvalidBody("Invalid 'messages': expected at least one message, but got an empty array.", "messages")
    return conversation


def sampling(fields: Fields) -> dict[str, Any]:
    """How the answer is sampled. Ranges are those that hold for every provider."""
    return {
        "temperature": fields.number("temperature", 0, 2),
        "top_p": fields.number("top_p", 0, 1),
        "top_k": fields.integer("top_k", -1, INT32[1]),
        "min_p": fields.number("min_p", 0, 1),
        "seed": fields.integer("seed"),
        "presence_penalty": fields.number("presence_penalty", -2, 2),
        "frequency_penalty": fields.number("frequency_penalty", -2, 2),
        "logit_bias": {
            token: checked_number(bias, -100, 100, f"logit_bias.{token}")
            for token, bias in fields.entries("logit_bias").items()
        },
        "logprobs": fields.boolean("logprobs"),
        "top_logprobs": fields.integer("top_logprobs", 0, 20),
        "n": fields.integer("n", 1, 128),
    }


def limits(fields: Fields) -> dict[str, Any]:
    """Where the answer ends."""
    return {
        "max_completion_tokens": fields.integer("max_completion_tokens", 1),
        "max_tokens": fields.integer("max_tokens", 1),
        "stop": stop(fields),
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
        "parallel_tool_calls": fields.boolean("parallel_tool_calls"),
        "functions": [function_tool(entry) for entry in fields.objects("functions")],
        "function_call": function_choice(fields),
    }


def forms(fields: Fields) -> dict[str, Any]:
    """Which form the answer has, and what the provider does beside it."""
    return {
        "stream_options": part(fields, "stream_options", stream_options),
        "response_format": part(fields, "response_format", response_format),
        "reasoning_effort": fields.text("reasoning_effort"),
        "verbosity": fields.text("verbosity"),
        "modalities": fields.texts("modalities"),
        "audio": part(fields, "audio", audio_options),
        "prediction": part(fields, "prediction", prediction),
        "prompt_cache_options": part(fields, "prompt_cache_options", prompt_cache_options),
        "web_search_options": part(fields, "web_search_options", web_search_options),
        "moderation": part(fields, "moderation", moderation),
    }


def labels(fields: Fields) -> dict[str, Any]:
    """Under which names the provider serves, keeps and caches."""
    return {
        "service_tier": fields.text("service_tier"),
        "store": fields.boolean("store"),
        "metadata": {
            name: checked_text(value, f"metadata.{name}") for name, value in fields.entries("metadata").items()
        },
        "user": fields.text("user"),
        "safety_identifier": fields.text("safety_identifier"),
        "prompt_cache_key": fields.text("prompt_cache_key"),
        "prompt_cache_retention": fields.text("prompt_cache_retention"),
    }


def part(fields: Fields, name: str, reader: Callable[[Fields], Part]) -> Part | None:
    """An object among the options; None where it is absent."""
    value = fields.fields(name)
    return None if value is None else reader(value)
