"""A chat completion spec becomes the request of POST /api/chat.

Sources: https://docs.ollama.com/api/chat, https://docs.ollama.com/modelfile#parameter (the options) and api/types.go of
Ollama. An option of Ollama's own comes in extra_json under its dotted name ("options.num_ctx"), or, where the extra is
of OpenAI's format, in an object `options`, as SDKs send it (`extra_body`).
"""

from dataclasses import dataclass, field
from typing import Any

from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.tool_pb2 import Tool

from gateway_core.call import Rewrite
from gateway_core.providers.ollama.conversation import Conversation
from gateway_core.providers.ollama.extra import FORMAT, Extra
from gateway_core.unsupported import extra_fields
from gateway_core.upstream.json_text import Document, json_object

OPTIONS = ("temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty")
"""Options that have the contract's names."""

LIMITS = ("max_completion_tokens", "max_tokens")
"""What limits the answer: Ollama's num_predict."""

EFFORTS: dict[str, bool | str] = {
    "none": False,
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "max",
}
"""Ollama's `think` for how much to reason. Models that know no levels take every level for yes."""

NATIVE = frozenset({"keep_alive", "options", "think", "truncate", "shift"})
"""Ollama's own fields that are taken from callers of OpenAI's API too."""

ELSEWHERE = frozenset({"template", "suffix", "raw", "context", "prompt", "system"})
"""Fields of POST /api/generate, which POST /api/chat would ignore."""

RESERVED = frozenset({"model", "messages", "stream"})
"""What the provider decides, whatever is carried."""

OPTION = "options."
"""What stands before the name of an option in extra_json."""


@dataclass(slots=True)
class Written:
    """A request, and what became of the parts of the spec that Ollama has no word for."""

    document: Document
    left_out: dict[str, None] = field(default_factory=dict)
    """Paths."""
    rewrites: list[Rewrite] = field(default_factory=list)


def written(spec: ChatCompletionSpec, model: str, *, stream: bool, left_out: frozenset[str] = frozenset()) -> Written:
    """The request; takes the names of parameters to leave out. Raises InvalidRequest where JSON text in it is none."""
    extra = Extra(spec.extra_format or "openai")
    prefill = "" if "prefill" in left_out else spec.prefill
    document: Document = {"model": model, "messages": Conversation(extra).documents(spec.messages, prefill)}
    found = Written(document, extra.left_out)
    tools = [] if spec.tool_choice.mode == "none" or "tools" in left_out else spec.tools
    if offered := [each for n, tool in enumerate(tools) for each in tool_documents(tool, f"tools[{n}]", extra)]:
        document["tools"] = offered
    if "response_format" not in left_out:
        put_format(document, spec)
        extra.leave_out(spec.response_format.extra_json, "response_format")
        extra.leave_out(spec.response_format.json_schema.extra_json, "response_format.json_schema")
    if spec.reasoning_effort and "reasoning_effort" not in left_out:
        put_think(found, spec.reasoning_effort)
    for name in ("logprobs", "top_logprobs"):
        if spec.HasField(name) and name not in left_out:
            document[name] = getattr(spec, name)
    options = options_of(spec, left_out)
    put_extra(document, options, spec, left_out)
    if options:
        document["options"] = options
    document["stream"] = stream
    found.rewrites += [Rewrite(path, "left out, Ollama takes none back") for path in extra.untold]
    return found


def options_of(spec: ChatCompletionSpec, left_out: frozenset[str]) -> Document:
    """What stands under `options`."""
    options: Document = {name: getattr(spec, name) for name in OPTIONS if spec.HasField(name) and name not in left_out}
    for name in LIMITS:
        if spec.HasField(name) and name not in left_out:
            options.setdefault("num_predict", getattr(spec, name))
    if spec.stop and "stop" not in left_out:
        options["stop"] = list(spec.stop)
    return options


def put_format(document: Document, spec: ChatCompletionSpec) -> None:
    """Sets the form of the answer: "json", or a schema, to which Ollama always holds the model."""
    form = spec.response_format
    if form.type == "json_object" or (form.type == "json_schema" and not form.json_schema.schema_json):
        document["format"] = "json"
    elif form.type == "json_schema":
        path = "response_format.json_schema.schema_json"
        document["format"] = json_object(form.json_schema.schema_json, path)


def put_think(found: Written, effort: str) -> None:
    """Sets how much to think, and tells where Ollama has no such level."""
    think = EFFORTS.get(effort, effort)
    found.document["think"] = think
    if think is not False and think != effort:
        found.rewrites.append(Rewrite("reasoning_effort", f"asked for as {think!r}, Ollama has no {effort!r}"))


def tool_documents(tool: Tool, path: str, extra: Extra) -> list[Document]:
    """A tool, in a list; an empty list where it is of a kind that Ollama does not know."""
    if not tool.HasField("function"):
        extra.left_out[path] = None
        return []
    function = tool.function
    named: Document = {"name": function.name}
    if function.HasField("description"):
        named["description"] = function.description
    # Ollama reads the type of the parameters, so that a tool without any has an empty object.
    named["parameters"] = {"type": "object", "properties": {}}
    if function.parameters_json:
        named["parameters"] = json_object(function.parameters_json, f"{path}.function.parameters_json")
    if function.strict:
        extra.left_out[f"{path}.function.strict"] = None
    extra.merge(named, function.extra_json, f"{path}.function")
    return [extra.merge({"type": "function", "function": named}, tool.extra_json, path)]


def put_extra(document: Document, options: Document, spec: ChatCompletionSpec, left_out: frozenset[str]) -> None:
    """Puts in what the contract only carries; it never replaces what is there."""
    if not spec.extra_json:
        return
    is_own = spec.extra_format == FORMAT
    for name, value in extra_fields(spec.extra_json).items():
        if name in left_out or name in RESERVED or name in ELSEWHERE or not (is_own or name in NATIVE):
            continue
        if name.startswith(OPTION):
            options.setdefault(name.removeprefix(OPTION), value)
        elif name == "options" and isinstance(value, dict):
            for option, given in value.items():
                options.setdefault(option, given)
        else:
            document.setdefault(name, value)


def is_satisfied(spec: ChatCompletionSpec, name: str) -> bool:
    """Whether a parameter that Ollama does not know asks for what it does anyway."""
    value: Any = getattr(spec, name, None)
    match name:
        case "n":
            return bool(value == 1)
        case "tool_choice":
            return spec.tool_choice.mode in ("auto", "none")
        case "parallel_tool_calls":
            return bool(value)
        case "store":
            return not value
        case "modalities":
            return list(value) == ["text"]
        case "service_tier":
            return value in ("auto", "default")
        case "stream_options":
            # The form of the usage is Headgate's own matter.
            return all(option.name == "include_usage" for option, _ in value.ListFields())
    return (spec.extra_format or "openai") != FORMAT and name in NATIVE
