"""What families of models are told apart by where Converse has no word of its own: how to reason, and top_k.

Sources: https://docs.aws.amazon.com/bedrock/latest/userguide/ ("Extended thinking" and "Adaptive thinking" of Claude,
"Extended thinking" of Amazon Nova 2, the inference parameters of each model).
"""

import re
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple

Reasoning = Literal["adaptive", "budget", "effort", "nova"]


EFFORTS = ("minimal", "low", "medium", "high", "xhigh", "max")
"""How much to reason, from little to much."""


class Family(NamedTuple):
    """Models that are asked in one way."""

    reasoning: Reasoning | None = None
    """How it is said how much to reason. None: not at all."""
    efforts: tuple[str, ...] = EFFORTS[1:]
    """What efforts they know."""
    top_k: tuple[str, ...] = ()
    """Where top_k stands in additionalModelRequestFields. Empty: nowhere."""
    takes_sampling: bool = True
    """Whether temperature, top_p and top_k may be told."""
    takes_both: bool = True
    """Whether temperature and top_p may be told together."""
    takes_prefill: bool = True
    """Whether the conversation may end with the beginning of the answer."""
    can_rest: bool = True
    """Whether it can be kept from reasoning, where it reasons."""

    @property
    def is_claude(self) -> bool:
        """Whether what Anthropic demands of a request that asks for thinking holds."""
        return self.reasoning in ("adaptive", "budget")


TOP_K = ("top_k",)
RESTLESS = Family("adaptive", top_k=TOP_K, takes_sampling=False, takes_prefill=False, can_rest=False)
UP_TO_HIGH = ("low", "medium", "high")

# By the id of a model, whatever region or ARN stands before it. The first row that fits counts. Read 2026-11-21.
FAMILIES: tuple[tuple[str, Family], ...] = (
    ("anthropic.claude-3-7-*", Family("budget", EFFORTS, TOP_K)),
    ("anthropic.claude-[3vi]*", Family(top_k=TOP_K)),
    ("anthropic.claude-*-4-[0-9][0-9][0-9]*", Family("budget", EFFORTS, TOP_K)),
    ("anthropic.claude-*-4-[15]-*", Family("budget", EFFORTS, TOP_K, takes_both=False)),
    ("anthropic.claude-*-4-[15]", Family("budget", EFFORTS, TOP_K, takes_both=False)),
    ("anthropic.claude-*-4-6*", Family("adaptive", (*UP_TO_HIGH, "max"), TOP_K, takes_both=False, takes_prefill=False)),
    ("anthropic.claude-fable-*", RESTLESS),
    ("anthropic.claude-mythos-*", RESTLESS),
    ("anthropic.claude-opus-5-5*", RESTLESS),
    ("anthropic.claude-*", Family("adaptive", top_k=TOP_K, takes_sampling=False, takes_prefill=False)),
    ("amazon.nova-2-*", Family("nova", UP_TO_HIGH, ("inferenceConfig", "topK"))),
    ("amazon.nova-*", Family(top_k=("inferenceConfig", "topK"))),
    ("openai.gpt-oss-*", Family("effort", UP_TO_HIGH)),
    ("openai.*", Family("effort", ("none", *EFFORTS[:-1]))),
    ("mistral.*", Family(top_k=TOP_K)),
    ("cohere.command-r*", Family(top_k=("k",))),
)

BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 24576, "xhigh": 32768, "max": 65536}
"""Tokens of thinking, for models that are told in tokens: at most four of five of the whole answer."""

LEAST_BUDGET = 1024
USUAL_TOKENS = 32_000
"""Of an answer whose length nobody limits: every model that is told in tokens can say as much."""


class Thinking(NamedTuple):
    """How much to reason, as a model is told."""

    fields: dict[str, Any]
    """For additionalModelRequestFields."""
    asked: str
    """The level that this stands for."""


def family(model: str) -> Family:
    """The family of a model, by its id or its ARN; one that says nothing where it is not known."""
    return next((row for pattern, row in FAMILIES if fnmatchcase(model, f"*{pattern}")), Family())


VENDOR = re.compile(r"(?:[a-z-]+\.)?([a-z0-9]+)\.[a-z]")
"""What the id of a model begins with, after the regions that it is asked in. What stands for a model has no vendor."""


def takes_signed_thoughts(model: str) -> bool:
    """Whether a model takes thoughts back that Claude has signed: others refuse any, and an unnamed one may be it."""
    named = VENDOR.match(model.rpartition("/")[2])
    return named is None or named[1] == "anthropic"


def thinking(kin: Family, effort: str, max_tokens: int | None) -> Thinking | None:
    """How a family is told how much to reason; None where it cannot be told."""
    if effort == "none" and not kin.can_rest:
        return None
    if effort == "none" and kin.reasoning in RESTING:
        return Thinking(dict(RESTING[kin.reasoning]), effort)
    level = known_effort(kin.efforts, effort)
    if level is None:
        return None
    match kin.reasoning:
        case "effort":
            return Thinking({"reasoning_effort": level}, level)
        case "nova":
            return Thinking({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": level}}, level)
        case "adaptive":
            # Newer models leave the words out of their answers unless they are asked for them.
            asked = {"type": "adaptive", "display": "summarized"}
            return Thinking({"thinking": asked, "output_config": {"effort": level}}, level)
        case "budget":
            room = (max_tokens or USUAL_TOKENS) * 4 // 5
            budget = min(BUDGETS[level], room)
            return (
                Thinking({"thinking": {"type": "enabled", "budget_tokens": budget}}, level)
                if room >= LEAST_BUDGET
                else None
            )
    return None


RESTING: dict[Reasoning | None, dict[str, Any]] = {
    "adaptive": {"thinking": {"type": "disabled"}},
    "budget": {"thinking": {"type": "disabled"}},
    "nova": {"reasoningConfig": {"type": "disabled"}},
}
"""How models are kept from reasoning."""


def known_effort(known: tuple[str, ...], effort: str) -> str | None:
    """An effort as models know it: the next lower one, or their least; None for one that nobody knows."""
    if effort in known:
        return effort
    if effort not in EFFORTS:
        return None
    lower = [each for each in EFFORTS[: EFFORTS.index(effort)] if each in known]
    return lower[-1] if lower else next(each for each in known if each in EFFORTS)
