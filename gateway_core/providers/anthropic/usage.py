"""Anthropic's usage object becomes the contract.

Source: https://platform.claude.com/docs/en/api/messages/create (Usage), …/build-with-claude/prompt-caching (its tokens
of input are those that the cache neither had nor keeps).
"""

from typing import Any

import orjson
from headgate.v1.token_usage_pb2 import TokenUsage

MOST = 2**62


def usage(document: dict[str, Any]) -> TokenUsage:
    """The tokens used; raises ValueError where a number is none."""
    rest = {name: value for name, value in document.items() if value is not None}
    fresh, answered = count(rest, "input_tokens"), count(rest, "output_tokens")
    read, written = count(rest, "cache_read_input_tokens"), count(rest, "cache_creation_input_tokens")
    rest.pop("service_tier", None)  # the answer's own
    found = TokenUsage(prompt_tokens=sum(each or 0 for each in (fresh, read, written)), completion_tokens=answered or 0)
    found.total_tokens = found.prompt_tokens + found.completion_tokens
    if read is not None:
        found.prompt_tokens_details.cached_tokens = read
    if written is not None:
        found.prompt_tokens_details.cache_write_tokens = written
    details = rest.pop("output_tokens_details", None)
    if isinstance(details, dict) and (thought := count(details, "thinking_tokens")) is not None:
        found.completion_tokens_details.reasoning_tokens = thought
    if rest:
        found.extra_json = orjson.dumps(rest).decode()
    return found


def count(document: dict[str, Any], name: str) -> int | None:
    """Takes a number of tokens out of an object; None where there is none. Raises ValueError for anything else."""
    value = document.pop(name, None)
    if value is not None and (type(value) is not int or not 0 <= value < MOST):
        raise ValueError(f"its {name} are not a number of tokens")
    return value
