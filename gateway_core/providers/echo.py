"""Answers with the words it was given: for a first try, demonstrations and tests. It is not a model.

It honours max_tokens, max_completion_tokens, stop, n and prefill, with a word as its token. What samples or identifies
has nothing to act on and is taken as it is; what would have to change the answer (tools, formats, …) is unsupported.
"""

import re
import time
import uuid
from collections.abc import Iterator, Sequence

from headgate.v1.chat_completion_pb2 import AnswerMessage, ChatCompletionChunk
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ROLE_ASSISTANT, ROLE_USER, ChatMessage
from headgate.v1.model_pb2 import Model
from headgate.v1.token_usage_pb2 import TokenUsage

from gateway_core.call import Call, Events, Rewrite
from gateway_core.config import ProviderConfig
from gateway_core.unsupported import found, refuse_or_drop

WORD = re.compile(r"\s*\S+\s*?(?=\s|$)|\s+$")

UNSUPPORTED = frozenset(
    {
        "tools",
        "tool_choice",
        "functions",
        "function_call",
        "response_format",
        "logprobs",
        "top_logprobs",
        "modalities",
        "audio",
        "web_search_options",
        "moderation",
        "reasoning_effort",
        "verbosity",
        "prediction",
    }
)


class Provider:
    """The echo."""

    def __init__(self, name: str, config: ProviderConfig) -> None:
        """Takes the provider's name in the configuration, and its row."""
        self._name = name
        self._unsupported = UNSUPPORTED | config.unsupported_parameters

    async def open_chat_completion(self, call: Call[ChatCompletionSpec]) -> Events:
        """Answers with the text of the last user message."""
        # It says the beginning of its answer again, so it cannot go on with another's.
        refuse_or_drop(call, sorted(found(call, self._unsupported | call.needs, extra_format="echo")))
        if any(part.WhichOneof("part") != "text" for message in call.request.messages for part in message.parts.parts):
            call.rewrites.append(Rewrite("messages", "only text is echoed"))
        return self._events(call)

    async def list_models(self) -> Sequence[Model]:
        """The one model that there is."""
        return [Model(id="echo")]

    async def close(self) -> None:
        """Does nothing."""

    async def _events(self, call: Call[ChatCompletionSpec]) -> Events:
        spec = call.request
        text, finish_reason = answer(spec)
        head = ChatCompletionChunk(id=f"chatcmpl-echo-{uuid.uuid4().hex}", created=int(time.time()), model="echo")
        choice_count = spec.n if spec.HasField("n") else 1
        last = ChatCompletionChunk(usage=usage(spec, text, choice_count))
        last.MergeFrom(head)
        for index in range(choice_count):
            for piece in WORD.findall(text) if call.stream else ():
                yield chunk(head, index, AnswerMessage(role=ROLE_ASSISTANT, content=piece))
            said = AnswerMessage() if call.stream else AnswerMessage(role=ROLE_ASSISTANT, content=text)
            last.choices.add(index=index, delta=said, finish_reason=finish_reason)
        yield last


def chunk(head: ChatCompletionChunk, index: int, delta: AnswerMessage) -> ChatCompletionChunk:
    """A chunk of the answer."""
    event = ChatCompletionChunk()
    event.CopyFrom(head)
    event.choices.add(index=index, delta=delta)
    return event


def answer(spec: ChatCompletionSpec) -> tuple[str, str]:
    """What the echo says, and why it ends."""
    asked = [message for message in spec.messages if message.role == ROLE_USER] or spec.messages[-1:]
    text = spec.prefill + "".join(texts(asked[-1]))
    for stop in spec.stop:
        text = text.partition(stop)[0] if stop else text
    limit = spec.max_completion_tokens or spec.max_tokens
    words = WORD.findall(text)
    if limit and len(words) > limit:
        return "".join(words[:limit]), "length"
    return text, "stop"


def usage(spec: ChatCompletionSpec, text: str, choice_count: int) -> TokenUsage:
    """The words in and out."""
    prompt = sum(len(piece.split()) for message in spec.messages for piece in texts(message))
    completion = len(text.split()) * choice_count
    return TokenUsage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


def texts(message: ChatMessage) -> Iterator[str]:
    """The texts of a message."""
    if message.HasField("text"):
        yield message.text
    for part in message.parts.parts:
        if part.HasField("text"):
            yield part.text
