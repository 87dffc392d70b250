"""Gemini's usageMetadata becomes the contract. Source: https://ai.google.dev/api/generate-content#UsageMetadata."""

import orjson
from headgate.v1.token_usage_pb2 import PromptTokensDetails, TokenUsage

from gateway_core.providers.gemini.reading import whole
from gateway_core.upstream.document import objects, text
from gateway_core.upstream.json_text import Document

MODALITIES = {"TEXT": "text_tokens", "IMAGE": "image_tokens", "AUDIO": "audio_tokens"}

KNOWN = frozenset(
    {
        "promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "toolUsePromptTokenCount", "totalTokenCount",
        "cachedContentTokenCount", "promptTokensDetails", "candidatesTokensDetails",
    }
)  # fmt: skip


def put_usage(usage: TokenUsage, document: Document) -> None:
    """Fills the usage: thoughts are a part of the completion, and what server-side tools read of the prompt."""
    thoughts = whole(document, "thoughtsTokenCount")
    usage.prompt_tokens = count(document, "promptTokenCount") + count(document, "toolUsePromptTokenCount")
    usage.completion_tokens = count(document, "candidatesTokenCount") + (thoughts or 0)
    total = whole(document, "totalTokenCount")
    usage.total_tokens = usage.prompt_tokens + usage.completion_tokens if total is None else total
    cached = whole(document, "cachedContentTokenCount")
    if cached is not None:
        usage.prompt_tokens_details.cached_tokens = cached
    put_prompt_details(usage, objects(document, "promptTokensDetails"))
    if thoughts is not None:
        usage.completion_tokens_details.reasoning_tokens = thoughts
    for entry in objects(document, "candidatesTokensDetails"):
        name = MODALITIES.get(text(entry, "modality"))
        if name in ("text_tokens", "audio_tokens"):
            setattr(usage.completion_tokens_details, name, count(entry, "tokenCount"))
    extra = {name: value for name, value in document.items() if name not in KNOWN and value is not None}
    if extra:
        usage.extra_json = orjson.dumps(extra).decode()


def put_prompt_details(usage: TokenUsage, entries: list[Document]) -> None:
    """Fills what the prompt was made of."""
    others: dict[str, int] = {}
    details = PromptTokensDetails()
    for entry in entries:
        kind = text(entry, "modality")
        tokens = count(entry, "tokenCount")
        if kind in MODALITIES:
            setattr(details, MODALITIES[kind], tokens)
        else:
            others[f"{kind.lower()}_tokens"] = tokens
    if entries:
        if others:
            details.extra_json = orjson.dumps(others).decode()
        usage.prompt_tokens_details.MergeFrom(details)


def count(document: Document, name: str) -> int:
    """A number of tokens; 0 where none is told."""
    return whole(document, name) or 0
