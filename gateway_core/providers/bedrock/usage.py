"""Bedrock's token counts become the contract.

Source: https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html: inputTokens are those that the cache
had no part in, and what was read from it or written into it is counted beside them.
"""

from collections.abc import Mapping
from typing import Any

import orjson
from headgate.v1.token_usage_pb2 import TokenUsage

BOUND = 2**62


def usage(document: Mapping[str, Any]) -> TokenUsage:
    """The tokens used."""
    fresh, answered = count(document, "inputTokens") or 0, count(document, "outputTokens") or 0
    read, written = count(document, "cacheReadInputTokens"), count(document, "cacheWriteInputTokens")
    cached = (read or 0) + (written or 0)
    total = count(document, "totalTokens")
    # Where the total says so, the cache's tokens are among the others already, if there is room for them.
    prompt = fresh if total == fresh + answered and cached <= fresh else fresh + cached
    told = TokenUsage(
        prompt_tokens=prompt,
        completion_tokens=answered,
        total_tokens=max(prompt + answered, total or 0),
    )
    if read is not None:
        told.prompt_tokens_details.cached_tokens = read
    if written is not None:
        told.prompt_tokens_details.cache_write_tokens = written
    if details := document.get("cacheDetails"):
        told.prompt_tokens_details.extra_json = orjson.dumps({"cacheDetails": details}).decode()
    return told


def count(document: Mapping[str, Any], name: str) -> int | None:
    """A number of tokens; None where there is none."""
    value = document.get(name)
    return value if type(value) is int and 0 <= value < BOUND else None
