"""Whole answers of the shape that most have, read and written without a document between: one text that ended.

What the fields say here is all that is checked: an answer of any other shape, be it right or wrong, is not read.
"""

from typing import Annotated, Literal

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from headgate.v1.message_pb2 import ROLE_ASSISTANT
from msgspec import UNSET, DecodeError, Meta, Struct, UnsetType, to_builtins
from msgspec.json import Decoder, Encoder

from gateway_core.providers.openai.reading import INT64
from gateway_core.said import Said
from gateway_core.tokens import TOKENS_AT_MOST, Tokens

FAILED = frozenset({"error", "abort"})
"""The finish reasons of an answer that failed on its way, beside an error object or alone.

"abort" is that of vLLM and SGLang where the server gives an answer up, before a [DONE] (vllm-project/vllm#57082).
"""

Text = Annotated[str, Meta(min_length=1)]
Time = Annotated[int, Meta(gt=0, le=INT64 - 1)]
Count = Annotated[int, Meta(ge=0, le=TOKENS_AT_MOST)]


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


class PromptDetails(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Of the tokens of the prompt, by kinds that are known."""

    cached_tokens: Count | None = None
    audio_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    text_tokens: Count | None = None
    image_tokens: Count | None = None


class CompletionDetails(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """Likewise, of those of the completion."""

    reasoning_tokens: Count | None = None
    audio_tokens: Count | None = None
    accepted_prediction_tokens: Count | None = None
    rejected_prediction_tokens: Count | None = None
    text_tokens: Count | None = None


NO_PROMPT_DETAILS = PromptDetails()
NO_COMPLETION_DETAILS = CompletionDetails()


class Usage(Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """The tokens used, within what can be meant."""

    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None

    def tokens(self) -> Tokens:
        """The same in plain numbers, of the classes that have a price."""
        prompt = self.prompt_tokens_details or NO_PROMPT_DETAILS
        completion = self.completion_tokens_details or NO_COMPLETION_DETAILS
        told = (
            self.prompt_tokens,
            prompt.cached_tokens,
            prompt.cache_write_tokens,
            prompt.audio_tokens,
            self.completion_tokens,
            completion.reasoning_tokens,
            completion.audio_tokens,
        )
        return tuple.__new__(Tokens, told)  # as in `tokens_of`


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
        choice, usage = self.choices[0], self.usage
        told = None if usage is None else usage.tokens()
        said = (self.id, self.model, {0: choice.finish_reason}, len(choice.message.content), told)
        return tuple.__new__(Said, said)

    def event(self) -> ChatCompletionChunk:
        """What it says: what `chunk` would tell, which is asked for every other answer."""
        used = None if self.usage is None else to_builtins(self.usage)
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
