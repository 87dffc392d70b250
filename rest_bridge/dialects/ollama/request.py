"""Ollama's JSON → the contract, and nothing else: no I/O, no clock.

Sources: api/types.go and server/routes.go of Ollama. What only Ollama has a word for goes into extra_json with
extra_format "ollama", an option under its dotted name ("options.num_ctx") and not inside of an object "options": the
core names what a provider does not take by the keys of extra_json, and of "options" the rest was taken.
"""

import re
import sys
from typing import Any

import orjson
from headgate.v1.chat_pb2 import ChatCompletionSpec, JsonSchema, ResponseFormat
from headgate.v1.message_pb2 import ROLE_SYSTEM, ROLE_USER

from rest_bridge.body import INT32, Fields, InvalidBody, json_text
from rest_bridge.dialects.ollama.conversation import conversation, set_content, tool

EXTRA_FORMAT = "ollama"

# Ollama itself has "low", "medium", "high" and "max".
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

# Only what would be wrong for every host is refused here.
LARGEST = sys.float_info.max
RANGES = {
    "temperature": (0, LARGEST),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "presence_penalty": (-LARGEST, LARGEST),
    "frequency_penalty": (-LARGEST, LARGEST),
}

# What Go's time.ParseDuration reads: "5m", "1h30m", "-1s", "0".
DURATION = re.compile(r"[-+]?(0|((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))+)", re.ASCII)


def chat_spec(body: object) -> ChatCompletionSpec:
    """What POST /api/chat asks for; raises InvalidBody. No messages: the caller only wants the model loaded."""
    fields = Fields(body)
    spec = ChatCompletionSpec()
    spec.messages.extend(conversation(fields.objects("messages")))
    spec.tools.extend(tool(item) for item in fields.objects("tools"))
    return completed(spec, fields, {})


def generate_spec(body: object) -> ChatCompletionSpec:
    """What POST /api/generate asks for; raises InvalidBody. No messages: the caller only wants the model loaded."""
    fields = Fields(body)
    spec = ChatCompletionSpec()
    system, prompt = fields.text("system"), fields.text("prompt")
    if system:
        spec.messages.add(role=ROLE_SYSTEM, text=system)
    set_content(spec.messages.add(role=ROLE_USER), prompt or "", fields)
    if not prompt:
        del spec.messages[:]
    extra = {
        "template": fields.text("template"),
        "suffix": fields.text("suffix"),
        "raw": fields.boolean("raw"),
        "context": [number for number, _ in fields.items("context")],
    }
    if extra["raw"] and (system or extra["template"] or extra["context"]):
        raise InvalidBody("raw mode does not support template, system, or context", "raw")
    return completed(spec, fields, extra)


def asked_model(body: object) -> str:
    """The model that POST /api/show asks for: `model`, or `name` as it once was; raises InvalidBody."""
    fields = Fields(body)
    model, name = fields.text("model"), fields.text("name")
    if not (model or name):
        raise InvalidBody("model is required", "model")
    return model or name or ""


def is_streamed(body: object) -> bool:
    """Whether the answer is asked for line by line, which is Ollama's default; raises InvalidBody."""
    return Fields(body).boolean("stream") is not False


def asks_to_unload(body: object) -> bool:
    """Whether keep_alive is zero, in which case a request without messages or prompt unloads; raises InvalidBody."""
    kept = keep_alive(Fields(body))
    return kept is not None and not re.search("[1-9]", str(kept))


def completed(spec: ChatCompletionSpec, fields: Fields, extra: dict[str, Any]) -> ChatCompletionSpec:
    """The spec with what both endpoints have. What is left joins the extra; an empty extra asks for nothing."""
    spec.model = fields.text("model") or ""
    if not spec.model:
        raise InvalidBody("model is required", "model")
    fields.boolean("stream")
    set_format(spec, fields)
    set_think(spec, fields)
    set_logprobs(spec, fields)
    extra = {name: value for name, value in extra.items() if value}
    extra |= options_extra(spec, fields.entries("options"))
    extra |= {name: fields.boolean(name) for name in ("truncate", "shift")}
    extra["keep_alive"] = keep_alive(fields)
    extra |= orjson.loads(fields.extra_json() or "{}")
    extra = {name: value for name, value in extra.items() if value is not None}
    if extra:
        spec.extra_json = json_text(extra, "")
        spec.extra_format = EXTRA_FORMAT
    return spec


def options_extra(spec: ChatCompletionSpec, options: dict[str, Any]) -> dict[str, Any]:
    """Sets the options that the contract has a field for; those that are left, by their dotted names."""
    # Ollama reads 40.0 where it wants an integer.
    whole = {name: int(v) if type(v) is float and v.is_integer() else v for name, v in options.items()}
    fields = Fields(whole, "options")
    for name, (low, high) in RANGES.items():
        if (number := fields.number(name, low, high)) is not None:
            setattr(spec, name, number)
    if (seed := fields.integer("seed")) is not None and seed != -1:  # -1 is Ollama's default: a random one
        spec.seed = seed
    spec.stop.extend([fields.text("stop") or ""] if isinstance(fields.peek("stop"), str) else fields.texts("stop"))
    top_k, num_predict = fields.integer("top_k", *INT32), fields.integer("num_predict")
    extra: dict[str, Any] = orjson.loads(fields.extra_json() or "{}")
    # A value that the contract cannot say stays an option: a top_k of no limit, an answer of no token. No limit to the
    # answer is what leaving it out means.
    if top_k is not None and top_k > 0:
        spec.top_k = top_k
    else:
        extra["top_k"] = top_k
    if num_predict is not None and num_predict > 0:
        spec.max_tokens = num_predict
    elif num_predict == 0:
        extra["num_predict"] = num_predict
    return {f"options.{name}": value for name, value in extra.items()}


def set_think(spec: ChatCompletionSpec, fields: Fields) -> None:
    """Sets how much to reason: false is "none", true is "medium" as in Ollama's ThinkValue."""
    think = fields.peek("think")
    fields.drop("think")
    if think is True or think is False:
        spec.reasoning_effort = "medium" if think else "none"
    elif think in EFFORTS:
        spec.reasoning_effort = think
    elif think is not None:
        raise InvalidBody(f"think must be true, false or one of {', '.join(EFFORTS)}", "think")


def set_format(spec: ChatCompletionSpec, fields: Fields) -> None:
    """Sets the form of the answer: "json" or a JSON Schema; "" is none.

    Whether a schema is strict stays the provider's default: OpenAI's strict mode refuses most schemas that Ollama
    takes.
    """
    form = fields.peek("format")
    if type(form) is dict:
        schema = JsonSchema(name="response", schema_json=fields.object_json("format"))
        spec.response_format.CopyFrom(ResponseFormat(type="json_schema", json_schema=schema))
    elif form == "json":
        spec.response_format.type = "json_object"
    elif form not in (None, ""):
        raise InvalidBody('format must be "json" or a JSON Schema object', "format")
    fields.drop("format")


def set_logprobs(spec: ChatCompletionSpec, fields: Fields) -> None:
    """Sets which log probabilities are asked for. Alternatives alone ask for nothing, as in Ollama."""
    logprobs, top_logprobs = fields.boolean("logprobs"), fields.integer("top_logprobs", 0, INT32[1])
    if logprobs:
        spec.logprobs = True
        if top_logprobs:
            spec.top_logprobs = top_logprobs


def keep_alive(fields: Fields) -> str | float | None:
    """How long the model is to stay loaded: a number of seconds, or a text such as "5m". None: not given."""
    value: str | float | None = fields.peek("keep_alive")
    if not isinstance(value, str):
        fields.number("keep_alive")
    elif not DURATION.fullmatch(value):
        raise InvalidBody('keep_alive must be a duration such as "5m", or a number of seconds', "keep_alive")
    fields.drop("keep_alive")
    return value
