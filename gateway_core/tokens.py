"""How many tokens were used, by class: as the contract tells it, in plain numbers that are cheap to ask for."""

from typing import NamedTuple

from headgate.v1.token_usage_pb2 import CompletionTokensDetails, PromptTokensDetails, TokenUsage

Counts = tuple[int | None, int | None, int | None, int | None, int | None, int | None, int | None]
"""The same as Tokens has, without names: it takes a tenth of the time to make."""


class Tokens(NamedTuple):
    """Tokens by class, as in TokenUsage: of the prompt and of the completion, and subsets of both. None: not told."""

    prompt: int | None = None
    cached: int | None = None
    cache_write: int | None = None
    prompt_audio: int | None = None
    completion: int | None = None
    reasoning: int | None = None
    completion_audio: int | None = None


UNTOLD = Tokens()


def tokens_of(usage: TokenUsage) -> Tokens:
    """What a provider told. An explicit 0 is 0; what is negative is not believed."""
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    cached, cache_write, prompt_audio = (
        prompt_subsets(usage.prompt_tokens_details) if "prompt_tokens_details" in usage else NO_PROMPT_SUBSETS
    )
    reasoning, completion_audio = (
        completion_subsets(usage.completion_tokens_details)
        if "completion_tokens_details" in usage
        else NO_COMPLETION_SUBSETS
    )
    if not (0 <= prompt <= TOKENS_AT_MOST and 0 <= completion <= TOKENS_AT_MOST):
        prompt, completion = count(prompt), count(completion)
    # Beside its own way to be made, which costs twice as much; so it is with the other tuples of every call.
    return tuple.__new__(Tokens, (prompt, cached, cache_write, prompt_audio, completion, reasoning, completion_audio))


def prompt_subsets(of: PromptTokensDetails) -> tuple[int | None, int | None, int | None]:
    """What of the prompt was cached, was written into the cache, was sound."""
    cached, cache_write, audio = of.cached_tokens, of.cache_write_tokens, of.audio_tokens
    # Only for a 0 it has to be asked whether it was told.
    return (
        count(cached) if cached else 0 if "cached_tokens" in of else None,
        count(cache_write) if cache_write else 0 if "cache_write_tokens" in of else None,
        count(audio) if audio else 0 if "audio_tokens" in of else None,
    )


def completion_subsets(of: CompletionTokensDetails) -> tuple[int | None, int | None]:
    """What of the completion was reasoning, was sound."""
    reasoning, audio = of.reasoning_tokens, of.audio_tokens
    return (
        count(reasoning) if reasoning else 0 if "reasoning_tokens" in of else None,
        count(audio) if audio else 0 if "audio_tokens" in of else None,
    )


NO_PROMPT_SUBSETS = (None, None, None)
NO_COMPLETION_SUBSETS = (None, None)

# More tokens than any model takes: a number beyond it is a fault of the provider's, and would overflow a column.
TOKENS_AT_MOST = 10**9


def count(told: int) -> int:
    """A number of tokens within what can be meant."""
    return told if 0 <= told <= TOKENS_AT_MOST else 0 if told < 0 else TOKENS_AT_MOST
