"""What answers are made of: the contract becomes OpenAI's JSON."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson
from google.protobuf.message import Message
from headgate.v1.chat_completion_pb2 import Annotation, AnswerMessage, Logprobs, TokenLogprob, TokenLogprobs
from headgate.v1.message_pb2 import FunctionCall, ReasoningDetail, ToolCall
from headgate.v1.token_usage_pb2 import TokenUsage

Document = dict[str, Any]

DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?", re.ASCII)
"""Costs as the contract has them, which are numbers of JSON as they are."""

COST = "x-headgate-cost"
"""The metadata that tells what a call cost, in US dollars as a decimal number."""

USAGE = b'"usage":{'
"""How the usage begins in an answer that the core has written. In a text its quotes would be escaped."""
USAGE_COST = USAGE + b'"cost":'


def merge(document: Document, extra_json: str) -> Document:
    """A document with the unknown fields that were carried beside it; they never replace what is there."""
    return complete(document, orjson.loads(extra_json)) if extra_json else document


def complete(document: Document, extra: Document) -> Document:
    """A document with more fields; they never replace what is there, but for null."""
    for name, value in extra.items():
        if document.get(name) is None:
            document[name] = value
    return document


def plain(message: Message) -> Document:
    """A message whose fields are strings, numbers and booleans under OpenAI's own names: those that are set."""
    document = {field.name: value for field, value in message.ListFields()}
    return merge(document, document.pop("extra_json", ""))


REASONING = ("reasoning", "reasoning_content")
"""The words that are in use for it: OpenRouter's, Groq's and vLLM's; and DeepSeek's, Moonshot's and Z.ai's."""


def said(message: AnswerMessage, reasoning: Sequence[str] = REASONING) -> Document:
    """What a message says, or a piece of one adds: the fields that are set, but not the role and the tool calls.

    Takes the names under which its reasoning is told.
    """
    document: Document = {}
    extra_json = ""
    for field, value in message.ListFields():
        name = field.name
        if name == "content" or name == "refusal":
            document[name] = value
        elif name == "reasoning":
            document.update(dict.fromkeys(reasoning, value))
        elif name == "extra_json":
            extra_json = value
        elif name in WRITERS:
            document[name] = WRITERS[name](value)
    return merge(document, extra_json)


def function_call(call: FunctionCall) -> Document:
    """A call of a function."""
    return plain(call)


def tool_call(call: ToolCall) -> Document:
    """A call of a tool, with its type, but not its index."""
    document: Document = {"id": call.id} if call.HasField("id") else {}
    kind = call.WhichOneof("call")
    if kind == "other_json":
        return {**orjson.loads(call.other_json), **document}
    if kind is not None:
        document["type"] = kind
        document[kind] = plain(getattr(call, kind))
    return merge(document, call.extra_json)


def reasoning_details(details: Iterable[ReasoningDetail]) -> list[Document]:
    """Reasoning as its provider wants it back."""
    return [{"type": detail.type, **plain(detail)} for detail in details]


def annotations(found: Iterable[Annotation]) -> list[Document]:
    """Where the text comes from."""
    return [annotation(each) for each in found]


def annotation(found: Annotation) -> Document:
    """Where a piece of text comes from."""
    if found.HasField("other_json"):
        return merge(orjson.loads(found.other_json), found.extra_json)
    document: Document = {"type": "url_citation"}
    if found.HasField("url_citation"):
        cited = found.url_citation
        document["url_citation"] = merge(
            {
                "url": cited.url,
                "title": cited.title,
                "start_index": cited.start_index,
                "end_index": cited.end_index,
            },
            cited.extra_json,
        )
    return merge(document, found.extra_json)


WRITERS: dict[str, Callable[[Any], Any]] = {
    "reasoning_details": reasoning_details,
    "annotations": annotations,
    "audio": plain,
    "function_call": function_call,
}


def logprobs(found: Logprobs) -> Document:
    """Log probabilities, those of the text and those of the refusal."""
    document: Document = {
        "content": token_logprobs(found.content) if found.HasField("content") else None,
        "refusal": token_logprobs(found.refusal) if found.HasField("refusal") else None,
    }
    return merge(document, found.extra_json)


def token_logprobs(found: TokenLogprobs) -> list[Document]:
    """Log probabilities of tokens, with the alternatives of each."""
    return [
        merge(
            {**token_logprob(token), "top_logprobs": [alternative(top) for top in token.top_logprobs]},
            token.extra_json,
        )
        for token in found.tokens
    ]


def alternative(token: TokenLogprob) -> Document:
    """A probable token in place of another."""
    return merge(token_logprob(token), token.extra_json)


def token_logprob(token: TokenLogprob) -> Document:
    """A token, its log probability and its bytes."""
    return {
        "token": token.token,
        "logprob": token.logprob,
        "bytes": list(token.utf8) if token.HasField("utf8") else None,
    }


def usage(used: TokenUsage) -> Document:
    """The tokens used, and what they cost in US dollars, under OpenRouter's name: `cost`, a number.

    Source: https://openrouter.ai/docs/use-cases/usage-accounting. No float is made of it: every digit is the ledger's.
    """
    document: Document = {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "total_tokens": used.total_tokens,
    }
    if used.HasField("prompt_tokens_details"):
        document["prompt_tokens_details"] = plain(used.prompt_tokens_details)
    if used.HasField("completion_tokens_details"):
        document["completion_tokens_details"] = plain(used.completion_tokens_details)
    if DECIMAL.fullmatch(used.cost_usd):
        document["cost"] = orjson.Fragment(used.cost_usd)
    return merge(document, used.extra_json)


def priced(body: bytes, cost: str) -> bytes:
    """An answer that came as JSON, with its cost (empty: not known) in its usage, as `usage` has it."""
    if DECIMAL.fullmatch(cost):
        before, usage_begins, after = body.rpartition(USAGE)
        if usage_begins:
            return b"".join((before, USAGE_COST, cost.encode(), b",", after))
    return body
