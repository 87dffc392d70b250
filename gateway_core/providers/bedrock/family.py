"""What families of models are told apart by where Converse has no word of its own: how to reason, and top_k.

Sources: https://docs.aws.amazon.com/bedrock/latest/userguide/ ("Extended thinking" and "Adaptive thinking" of Claude,
"Extended thinking" of Amazon Nova 2, the inference parameters of each model).
"""

from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

Reasoning = Literal["adaptive", "budget", "effort", "nova"]


class Family(NamedTuple):
    """Models that are asked in one way."""

    reasoning: Reasoning | None = None
    """How it is said how much to reason. None: not at all."""
    top_k: tuple[str, ...] = ()
    """Where top_k stands in additionalModelRequestFields. Empty: nowhere."""


# By the id of a model, whatever region or ARN stands before it. The first row that fits counts.
FAMILIES: tuple[tuple[str, Family], ...] = (
    ("anthropic.claude-3-7-*", Family("budget", ("top_k",))),
    ("anthropic.claude-[3vi]*", Family(None, ("top_k",))),
    ("anthropic.claude-*-4-[0-9][0-9][0-9]*", Family("budget", ("top_k",))),
    ("anthropic.claude-*-4-[15]-*", Family("budget", ("top_k",))),
    ("anthropic.claude-*", Family("adaptive", ("top_k",))),
    ("amazon.nova-2-*", Family("nova", ("inferenceConfig", "topK"))),
    ("amazon.nova-*", Family(None, ("inferenceConfig", "topK"))),
    ("openai.*", Family("effort")),
    ("mistral.*", Family(None, ("top_k",))),
    ("cohere.command-r*", Family(None, ("k",))),
)

# The part of the tokens of an answer that may be thoughts; as OpenRouter shares them out.
SHARES = {"minimal": 0.1, "low": 0.2, "medium": 0.5, "high": 0.8, "xhigh": 0.95, "max": 0.95}

LEAST_BUDGET = 1024
"""Tokens: no less may be given to thoughts."""

USUAL_TOKENS = 16_000
"""Of an answer whose length nobody limits, for the share of its thoughts."""

ADAPTIVE = {"minimal": "low"}
NOVA = {"minimal": "low", "xhigh": "high", "max": "high"}


class Thinking(NamedTuple):
    """How much to reason, as a model is told."""

    fields: dict[str, Any]
    """For additionalModelRequestFields."""
    asked: str
    """The level that this stands for."""


def family(model: str) -> Family:
    """The family of a model, by its id or its ARN; one that says nothing where it is not known."""
    return next((row for pattern, row in FAMILIES if fnmatchcase(model, f"*{pattern}")), Family())


def thinking(reasoning: Reasoning | None, effort: str, max_tokens: int | None) -> Thinking | None:
    """How a family is told how much to reason; None where it cannot be told."""
    if reasoning == "effort" and effort != "none":
        return Thinking({"reasoning_effort": effort}, effort)
    if effort == "none" and reasoning in ("adaptive", "budget"):
        return Thinking({"thinking": {"type": "disabled"}}, effort)
    if reasoning == "adaptive":
        level = ADAPTIVE.get(effort, effort)
        return Thinking({"thinking": {"type": "adaptive"}, "output_config": {"effort": level}}, level)
    if reasoning == "budget" and effort in SHARES:
        # Thoughts are counted among the tokens of the answer, and may not be all of them.
        budget = max(int((max_tokens or USUAL_TOKENS) * SHARES[effort]), LEAST_BUDGET)
        if max_tokens is None or budget < max_tokens:
            return Thinking({"thinking": {"type": "enabled", "budget_tokens": budget}}, effort)
    if reasoning == "nova":
        if effort == "none":
            return Thinking({"reasoningConfig": {"type": "disabled"}}, effort)
        level = NOVA.get(effort, effort)
        return Thinking({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": level}}, level)
    return None
