"""A chat completion spec becomes Gemini's JSON.

Sources: https://ai.google.dev/api/generate-content (GenerateContentRequest, GenerationConfig), and for the fields that
callers of Google's OpenAI-compatible API send: https://ai.google.dev/gemini-api/docs/openai (extra_body.google).
"""

from typing import Any

import orjson
from headgate.v1.chat_pb2 import ChatCompletionSpec, ResponseFormat

from gateway_core.providers.gemini.carried import FORMAT, Carried
from gateway_core.providers.gemini.family import Family, thinking_config
from gateway_core.providers.gemini.message import Conversation
from gateway_core.providers.gemini.schema import cleaned, sentence
from gateway_core.providers.gemini.tool import tool_config, tools
from gateway_core.upstream.json_text import Document, json_object

UNSUPPORTED = frozenset(
    {
        "audio", "function_call", "functions", "logit_bias", "metadata", "min_p", "moderation", "prediction",
        "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "safety_identifier", "store", "user",
        "verbosity",
    }
)  # fmt: skip
"""What the wire format has no word for."""

NUMBERS = {
    "temperature": "temperature",
    "top_p": "topP",
    "top_k": "topK",
    "max_tokens": "maxOutputTokens",
    "max_completion_tokens": "maxOutputTokens",
    "n": "candidateCount",
    "presence_penalty": "presencePenalty",
    "frequency_penalty": "frequencyPenalty",
    "logprobs": "responseLogprobs",
}
"""What is written by its value; of two with one name the later counts."""

SEEDS = range(-(2**31), 2**31)

TIERS = {"default": "standard", "flex": "flex", "priority": "priority"}

THINKING = {
    "include_thoughts": "includeThoughts",
    "thinking_budget": "thinkingBudget",
    "thinking_level": "thinkingLevel",
}

EXTENSION = frozenset({"google", "extra_body"})
"""Unknown fields of OpenAI's format that are meant for Google."""


def request_document(
    spec: ChatCompletionSpec, row: Family, *, left_out: frozenset[str] = frozenset(), carried: Carried | None = None
) -> Document:
    """The body of a request.

    Takes what is known of the model, the names of parameters to leave out, and what tells what could not be carried.
    Raises InvalidRequest where JSON text in the spec is none.
    """
    carried = carried or Carried(spec.extra_format)
    conversation = Conversation(carried, wants_signatures=row.wants_signatures)
    conversation.add(spec.messages)
    conversation.finish()
    if spec.HasField("prefill") and "prefill" not in left_out:
        conversation.say([{"text": spec.prefill}])
    document: Document = {"contents": conversation.contents}
    if conversation.instructions:
        document["systemInstruction"] = {"parts": conversation.instructions}
    put_tools(document, spec, left_out, carried)
    if config := generation_config(spec, row, left_out, carried):
        document["generationConfig"] = config
    if spec.HasField("service_tier") and "service_tier" not in left_out:
        put_tier(document, spec.service_tier, carried)
    if spec.extra_json:
        put_extra(document, spec, left_out, carried)
    return document


def put_tools(document: Document, spec: ChatCompletionSpec, left_out: frozenset[str], carried: Carried) -> None:
    """Puts in the tools, and which of them may or must be called."""
    offered = tools(spec, carried) if "tools" not in left_out else []
    calls = bool(offered) and "functionDeclarations" in offered[0]
    if spec.HasField("web_search_options") and "web_search_options" not in left_out:
        if calls:
            # Most models refuse their own search beside functions of the caller's.
            carried.leave("web_search_options")
        else:
            for field, _ in spec.web_search_options.ListFields():
                carried.leave(f"web_search_options.{field.name}")
            offered = [*offered, {"googleSearch": {}}]
    if offered:
        document["tools"] = offered
    if calls and "tool_choice" not in left_out and (config := tool_config(spec, carried)) is not None:
        document["toolConfig"] = config


def generation_config(spec: ChatCompletionSpec, row: Family, left_out: frozenset[str], carried: Carried) -> Document:
    """How the answer is made."""
    config: Document = {
        word: getattr(spec, name) for name, word in NUMBERS.items() if name not in left_out and spec.HasField(name)
    }
    if spec.stop and "stop" not in left_out:
        config["stopSequences"] = list(spec.stop)
    if spec.top_logprobs and "top_logprobs" not in left_out:
        config["logprobs"] = spec.top_logprobs
    if spec.HasField("seed") and "seed" not in left_out:
        if spec.seed in SEEDS:
            config["seed"] = spec.seed
        else:
            carried.leave("seed")
    if spec.modalities and "modalities" not in left_out and list(spec.modalities) != ["text"]:
        config["responseModalities"] = [kind.upper() for kind in spec.modalities]
    if spec.HasField("response_format") and "response_format" not in left_out:
        config.update(response_format(spec.response_format, carried))
    if spec.HasField("reasoning_effort") and "reasoning_effort" not in left_out:
        config["thinkingConfig"], changed = thinking_config(spec.reasoning_effort, row)
        if changed is not None:
            carried.changed[changed.name] = changed.reason
    return config


def response_format(form: ResponseFormat, carried: Carried) -> Document:
    """The form that the answer must have."""
    carried.merge({}, form.extra_json, "response_format")
    if form.type == "text":
        return {}
    document: Document = {"responseMimeType": "application/json"}
    schema = form.json_schema
    if schema.HasField("schema_json"):
        dropped: set[str] = set()
        path = "response_format.json_schema"
        described = {"description": schema.description} if schema.HasField("description") else {}
        written = cleaned(json_object(schema.schema_json, f"{path}.schema_json"), dropped)
        document["responseJsonSchema"] = written if "$ref" in written else {**described, **written}
        if dropped:
            carried.changed[f"{path}.schema"] = sentence(dropped)
    return document


def put_tier(document: Document, tier: str, carried: Carried) -> None:
    """Puts in the service tier, unless it is the host's to choose."""
    if tier in TIERS:
        document["serviceTier"] = TIERS[tier]
    elif tier != "auto":
        carried.leave("service_tier")


def put_extra(document: Document, spec: ChatCompletionSpec, left_out: frozenset[str], carried: Carried) -> None:
    """Puts in the unknown fields: those of Gemini's own format, and what OpenAI's have for Google."""
    extra = json_object(spec.extra_json, "extra_json")
    if spec.extra_format == FORMAT:
        for name, value in extra.items():
            known = document.get(name)
            if type(known) is dict and type(value) is dict:
                document[name] = {**value, **known}
            elif name not in left_out:
                document.setdefault(name, value)
        return
    for field in EXTENSION & extra.keys():
        value = extra[field]
        inner = value.get("google") if field == "extra_body" and type(value) is dict else value
        if type(inner) is dict:
            put_google(document, inner, f"{field}.google" if field == "extra_body" else field, carried)
        else:
            carried.leave(field)


def put_google(document: Document, google: dict[str, Any], path: str, carried: Carried) -> None:
    """Puts in what callers of Google's OpenAI-compatible API say of thoughts, the cache and safety."""
    for name, value in google.items():
        if name == "thinking_config" and type(value) is dict:
            written = {THINKING.get(key, key): item for key, item in value.items()}
            config = document.setdefault("generationConfig", {})
            # Level and budget exclude each other: the more particular wish counts.
            known = config.get("thinkingConfig", {}) if written.keys() <= {"includeThoughts"} else {}
            config["thinkingConfig"] = {**known, **written}
        elif name == "cached_content" and type(value) is str:
            document["cachedContent"] = value
        elif name == "safety_settings" and type(value) is list:
            document["safetySettings"] = value
        else:
            carried.leave(f"{path}.{name}")


def body(document: Document) -> bytes:
    """The body as it is sent."""
    return orjson.dumps(document)
