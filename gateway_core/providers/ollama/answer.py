"""Ollama's answers, whole or line by line, become the contract's chunks.

Source: https://docs.ollama.com/api/chat
"""

import re
from datetime import datetime
from typing import Any

import orjson
from headgate.v1.chat_completion_pb2 import AnswerMessage, ChatCompletionChunk, TokenLogprob
from headgate.v1.message_pb2 import ROLE_ASSISTANT

from gateway_core.upstream.document import objects, text

INT63 = 2**63

FRACTION = re.compile(r"\.\d+")

KNOWN = frozenset(
    {"model", "created_at", "message", "done", "done_reason", "prompt_eval_count", "eval_count", "logprobs"}
)
IN_MESSAGE = frozenset({"role", "content", "thinking", "tool_calls", "images"})


class Answer:
    """Reads one answer, in one document or in many.

    An answer has one id, which Ollama does not give; its tool calls are numbered in the order in which they come, and
    get an id where they have none.
    """

    def __init__(self, request_id: str) -> None:
        """Takes what the answer, and its calls, are named after."""
        self._request_id = request_id
        self._call_count = 0
        self.is_begun = False
        """Whether any of it is there."""
        self._says_something = False
        self._has_role = False
        self.is_done = False
        """Whether Ollama said that it has ended."""

    def chunk(self, document: dict[str, Any]) -> ChatCompletionChunk:
        """What a document says; raises ValueError where it is no answer."""
        message = document.get("message")
        is_done = document.get("done")
        if type(is_done) is not bool or (message is None and not is_done):
            raise ValueError("it has no message and does not end")
        event = ChatCompletionChunk(id=f"chatcmpl-{self._request_id}", model=text(document, "model"))
        event.created = seconds(document.get("created_at"))
        choice = event.choices.add()
        choice.delta.SetInParent()
        self.is_begun = True
        self._read_message({} if message is None else message, choice.delta)
        if tokens := objects(document, "logprobs"):
            choice.logprobs.content.tokens.extend(token(each) for each in tokens)
        if is_done:
            self._end(event, document)
        extra = {name: value for name, value in document.items() if name not in KNOWN and value is not None}
        if extra:
            event.extra_json = orjson.dumps(extra).decode()
        return event

    def _read_message(self, message: Any, said: AnswerMessage) -> None:
        if type(message) is not dict:
            raise ValueError("its message is not an object")
        if not self._has_role:
            said.role = ROLE_ASSISTANT
            self._has_role = True
        if content := text(message, "content"):
            said.content = content
        if thinking := text(message, "thinking"):
            said.reasoning = thinking
        for call in objects(message, "tool_calls"):
            self._read_call(call, said)
        self._says_something = self._says_something or bool(content or thinking or said.tool_calls)
        extra = {name: value for name, value in message.items() if name not in IN_MESSAGE and value is not None}
        if images := message.get("images"):
            extra["images"] = images
        if extra:
            said.extra_json = orjson.dumps(extra).decode()

    def _read_call(self, document: dict[str, Any], said: AnswerMessage) -> None:
        """A call, which always comes whole. Ollama's own index is left out: it begins anew in some versions."""
        function = document.get("function")
        if type(function) is not dict or not text(function, "name"):
            raise ValueError("it calls a tool without a name")
        arguments = function.get("arguments")
        call = said.tool_calls.add(index=self._call_count)
        call.id = text(document, "id") or f"call_{self._request_id}_{self._call_count}"
        call.function.name = text(function, "name")
        if not isinstance(arguments, str):
            arguments = orjson.dumps({} if arguments is None else arguments).decode()
        call.function.arguments = arguments
        self._call_count += 1

    def _end(self, event: ChatCompletionChunk, document: dict[str, Any]) -> None:
        self.is_done = True
        (choice,) = event.choices
        if not self._says_something:
            choice.delta.content = ""
        reason = text(document, "done_reason") or "stop"
        choice.finish_reason = "tool_calls" if reason == "stop" and self._call_count else reason
        prompt, completion = count(document, "prompt_eval_count"), count(document, "eval_count")
        if prompt is not None or completion is not None:
            # Ollama leaves a count of 0 out.
            event.usage.prompt_tokens, event.usage.completion_tokens = prompt or 0, completion or 0
            event.usage.total_tokens = event.usage.prompt_tokens + event.usage.completion_tokens


def count(document: dict[str, Any], name: str) -> int | None:
    """A number of tokens; None where there is none. Raises ValueError for anything else."""
    value = document.get(name)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < INT63:
        raise ValueError(f"its {name} is not a number of tokens")
    return value


def seconds(value: Any) -> int:
    """A time of RFC 3339, in seconds since 1970; 0 where there is none."""
    if type(value) is not str:
        return 0
    try:
        # Nanoseconds, which Go writes, are more than Python reads.
        return max(0, int(datetime.fromisoformat(FRACTION.sub("", value)).timestamp()))
    except (ValueError, OverflowError):
        return 0


def token(document: dict[str, Any]) -> TokenLogprob:
    """A token and its log probability, with the alternatives. Raises ValueError, TypeError for anything else."""
    read = lone_token(document)
    read.top_logprobs.extend(lone_token(top) for top in objects(document, "top_logprobs"))
    return read


def lone_token(document: dict[str, Any]) -> TokenLogprob:
    """A token and its log probability: an alternative has none of its own. Raises as `token`."""
    logprob = document.get("logprob")
    if type(logprob) is not float and type(logprob) is not int:
        raise ValueError("its logprobs have no logprob")
    read = TokenLogprob(token=text(document, "token"), logprob=logprob)
    utf8 = document.get("bytes")
    if utf8 is not None:
        # Of a number `bytes` would make as many zeros, and take the memory that they need.
        if type(utf8) is not list:
            raise ValueError("the bytes of its tokens are not a list")
        read.utf8 = bytes(utf8)
    return read
