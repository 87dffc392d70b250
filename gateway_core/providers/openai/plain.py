"""Whole answers of the shape that most have, read and written without a document between: one text that ended.

What the fields say here is all that is checked: an answer of any other shape, be it right or wrong, is not read.
"""

from typing import Annotated, Literal

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.message_pb2 import ROLE_ASSISTANT
from msgspec import UNSET, DecodeError, Meta, Struct, UnsetType
from msgspec.json import Decoder, Encoder
from msgspec.structs import asdict

from gateway_core.providers.openai.reading import INT64
from gateway_core.said import Said
from gateway_core.tokens import Tokens, count

FAILED = frozenset({"error", "abort"})
"""The finish reasons of an answer that failed on its way, beside an error object or alone.

"abort" is that of vLLM and SGLang where the server gives an answer up, before a [DONE] (vllm-project/vllm#57082).
"""

Text = Annotated[str, Meta(min_length=1)]
Time = Annotated[int, Meta(gt=0, le=INT64 - 1)]
Count = Annotated[int, Meta(ge=-INT64, le=INT64 - 1)]
PromptKind = Literal["cached_tokens", "audio_tokens", "cache_write_tokens", "text_tokens", "image_tokens"]
CompletionKind = Literal[
    "reasoning_tokens",
    "audio_tokens",
    "text_tokens",
    "accepted_prediction_tokens",
    "rejected_prediction_tokens",
]


class Message(Struct, forbid_unknown_fields=True, kw_only=True, gc=False):
    """An assistant's text."""

    role: Literal["assistant"]
    content: str
    refusal: None = None
    annotations: tuple[()] | None = ()
    tool_calls: tuple[()] | UnsetType | None = UNSET


class Choice(Struct, forbid_unknown_fields=True, kw_only=True, gc=False):
    """One that ended."""

    index: Literal[0] = 0
    message: Message
    logprobs: None = None
    finish_reason: Text


class Usage(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """The tokens used, by kinds that are known."""

    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count
    prompt_tokens_details: dict[PromptKind, Count] | None = None
    completion_tokens_details: dict[CompletionKind, Count] | None = None


class PlainAnswer(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """An answer in OpenAI's own form. Source: OpenAI's ChatCompletion."""

    id: Text
    object: Literal["chat.completion"]
    created: Time
    model: Text
    choices: tuple[Choice]
    usage: Usage | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None

    def said(self) -> Said:
        """What it tells beside its words."""
        choice, used = self.choices[0], self.usage
        usage = None
        if used is not None:
            prompt, completion = used.prompt_tokens_details or {}, used.completion_tokens_details or {}
            usage = Tokens(
                count(used.prompt_tokens),
                told(prompt.get("cached_tokens")),
                told(prompt.get("cache_write_tokens")),
                told(prompt.get("audio_tokens")),
                count(used.completion_tokens),
                told(completion.get("reasoning_tokens")),
                told(completion.get("audio_tokens")),
            )
        return Said(self.id, self.model, {0: choice.finish_reason}, len(choice.message.content), usage)

    def event(self) -> ChatCompletionChunk:
        """What it says: what `chunk` would tell, which is asked for every other answer."""
        used = None if self.usage is None else asdict(self.usage)
        event = ChatCompletionChunk(id=self.id, created=self.created, model=self.model, usage=used)
        if self.service_tier is not None:
            event.service_tier = self.service_tier
        if self.system_fingerprint is not None:
            event.system_fingerprint = self.system_fingerprint
        (choice,) = self.choices
        added = event.choices.add()
        added.finish_reason = choice.finish_reason
        delta = added.delta
        delta.role = ROLE_ASSISTANT
        delta.content = choice.message.content
        return event

    def json(self) -> bytes:
        """The same as JSON: what the bridge would write of the typed answer."""
        message = self.choices[0].message
        message.annotations, message.tool_calls = (), UNSET
        return ENCODER.encode(self)


DECODER = Decoder(PlainAnswer)
ENCODER = Encoder()


def plain_answer(data: bytes) -> PlainAnswer | None:
    """The answer in a body; None for one of any other shape."""
    try:
        answer = DECODER.decode(data)
    except (DecodeError, UnicodeError):  # that it is not valid is one of the first
        return None
    return None if answer.choices[0].finish_reason in FAILED else answer


def told(number: int | None) -> int | None:
    """A number of tokens that may not have been told."""
    return None if number is None else count(number)
