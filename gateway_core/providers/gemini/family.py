"""What Google's pages say of its models, by the beginning of their names: how they reason, and what they refuse.

Sources, read 2026-11-21: https://ai.google.dev/gemini-api/docs/thinking (levels, budgets),
https://ai.google.dev/gemini-api/docs/openai (which effort is which), and
https://ai.google.dev/gemini-api/docs/thought-signatures (who wants signatures back).
"""

from typing import NamedTuple

from gateway_core.call import Rewrite
from gateway_core.errors import InvalidRequest

ALL_LEVELS = ("minimal", "low", "medium", "high")

BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 32768, "max": 32768}
"""Tokens of thought by effort."""

EFFORTS = ("none", *ALL_LEVELS, "xhigh", "max")


class Family(NamedTuple):
    """Models whose names begin alike."""

    begins: str
    levels: tuple[str, ...] = ()
    """What thinkingLevel takes. Empty: it takes none."""
    budget: tuple[int, int] | None = None
    """Least and most of thinkingBudget, where that is what there is instead."""
    can_be_off: bool = False
    """Whether a budget of 0 is taken."""
    unsupported: frozenset[str] = frozenset()
    """Names of parameters that it refuses."""

    @property
    def wants_signatures(self) -> bool:
        """Whether function calls of earlier steps must carry a signature."""
        return bool(self.levels)


PREFILL = frozenset({"prefill"})
"""Conversations that end with the model's own words."""

EFFORT = frozenset({"reasoning_effort"})

FAMILIES = (
    Family("gemini-3-pro-image", levels=("low", "high")),
    Family("gemini-3-pro", levels=("low", "high")),
    Family("gemini-3.1-pro", levels=("low", "medium", "high")),
    Family("gemini-3-", levels=ALL_LEVELS),
    Family("gemini-3.1-", levels=ALL_LEVELS),
    # "An API request whose last turn is the model's returns an error", and so do penalties.
    Family(
        "gemini-3.5-flash-lite",
        levels=ALL_LEVELS,
        unsupported=PREFILL | {"presence_penalty", "frequency_penalty"},
    ),
    Family("gemini-2.5-pro", budget=(128, 32768)),
    Family("gemini-2.5-flash-lite", budget=(512, 24576), can_be_off=True),
    Family("gemini-2.5-flash-image", unsupported=EFFORT),
    Family("gemini-2.5-flash", budget=(1, 24576), can_be_off=True),
    Family("gemini-2.0", unsupported=EFFORT),
    Family("gemini-1.", unsupported=EFFORT),
    Family("gemma-", unsupported=EFFORT),
    # Newer ones than this table: they take levels, and no conversation that ends with their own words.
    Family("", levels=ALL_LEVELS, unsupported=PREFILL),
)


def family(model: str) -> Family:
    """The family of a model, named as Gemini names it."""
    name = model.rpartition("/")[2]
    return max((row for row in FAMILIES if name.startswith(row.begins)), key=lambda row: len(row.begins))


def thinking_config(effort: str, row: Family) -> tuple[dict[str, object], Rewrite | None]:
    """thinkingConfig for an effort, and what had to be changed of it; raises InvalidRequest for an unknown word."""
    if effort not in EFFORTS:
        raise InvalidRequest(f"reasoning_effort must be one of {', '.join(EFFORTS)}.", param="reasoning_effort")
    shown: dict[str, object] = {"includeThoughts": True} if effort != "none" else {}
    if row.budget is not None:
        least, most = row.budget
        if effort == "none" and row.can_be_off:
            return {"thinkingBudget": 0}, None
        tokens = min(max(BUDGETS.get(effort, 0), least), most)
        changed = f"reasoning cannot be turned off: {least} tokens are the least" if effort == "none" else None
        return {**shown, "thinkingBudget": tokens}, Rewrite("reasoning_effort", changed) if changed else None
    if effort in row.levels:
        return {**shown, "thinkingLevel": effort}, None
    level = nearest(effort, row.levels)
    return {**shown, "thinkingLevel": level}, Rewrite("reasoning_effort", f"changed from {effort} to {level}")


def nearest(effort: str, levels: tuple[str, ...]) -> str:
    """The level that is nearest to an effort; of two that are, the higher."""
    place = EFFORTS.index(effort)
    return min(reversed(levels), key=lambda level: abs(EFFORTS.index(level) - place))
