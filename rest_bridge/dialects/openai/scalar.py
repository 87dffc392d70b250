"""The options of a chat completion that are one value: what each may be."""

import math
import sys
from typing import Any, NamedTuple

from rest_bridge.body import INT32, INT64, Fields


class Scalar(NamedTuple):
    """What an option may be: the types of its value in JSON, and of numbers the inclusive range."""

    types: frozenset[type]
    low: float = -math.inf
    high: float = math.inf


TEXT = Scalar(frozenset({str}))
BOOLEAN = Scalar(frozenset({bool}))


def number(low: float, high: float) -> Scalar:
    """A number within an inclusive range."""
    return Scalar(frozenset({int, float}), low, high)


def integer(low: int, high: int = INT64[1]) -> Scalar:
    """An integer within an inclusive range."""
    return Scalar(frozenset({int}), low, high)


# Only what would be wrong for every host is refused here: hosts differ in their ranges, and refuse for themselves.
LARGEST = sys.float_info.max
SCALARS = {
    "prefill": TEXT,
    "temperature": number(0, LARGEST),
    "top_p": number(0, 1),
    "top_k": integer(*INT32),
    "min_p": number(0, 1),
    "seed": integer(INT64[0]),
    "presence_penalty": number(-LARGEST, LARGEST),
    "frequency_penalty": number(-LARGEST, LARGEST),
    "logprobs": BOOLEAN,
    "top_logprobs": integer(0, INT32[1]),
    "n": integer(1, 128),
    "max_completion_tokens": integer(-1),
    "max_tokens": integer(-1),
    "parallel_tool_calls": BOOLEAN,
    "reasoning_effort": TEXT,
    "verbosity": TEXT,
    "service_tier": TEXT,
    "store": BOOLEAN,
    "user": TEXT,
    "safety_identifier": TEXT,
    "prompt_cache_key": TEXT,
    "prompt_cache_retention": TEXT,
}
"""Each option under its name, which is that of its field in the contract too."""


def scalars(fields: Fields) -> dict[str, Any]:
    """The options that are one value; None where they are absent. Raises InvalidBody for one that is another thing."""
    return {name: value_of(fields, name, scalar) for name, scalar in SCALARS.items()}


def value_of(fields: Fields, name: str, scalar: Scalar) -> str | bool | float | None:
    """The value of an option; raises InvalidBody."""
    if scalar is TEXT:
        return fields.text(name)
    if scalar is BOOLEAN:
        return fields.boolean(name)
    if float in scalar.types:
        return fields.number(name, scalar.low, scalar.high)
    return fields.integer(name, int(scalar.low), int(scalar.high))
