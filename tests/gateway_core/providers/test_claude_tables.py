"""What three tables say of Claude's models is the same: Anthropic's, Bedrock's, and that of known models."""

import pytest

from gateway_core.known.models import ModelFacts, known_models
from gateway_core.providers.anthropic.facts import facts
from gateway_core.providers.bedrock.family import family

CLAUDES = [model for model in known_models().values() if model.host == "anthropic"]

every_claude = pytest.mark.parametrize("known", CLAUDES, ids=lambda known: known.model)


@every_claude
def test_a_known_model_is_what_anthropics_table_says(known: ModelFacts) -> None:
    row = facts(known.model)
    assert row.max_output_tokens == known.max_output_tokens
    assert row.takes_prefill == ("prefill" in known.features)
    assert row.takes_json_schema == ("json_schema" in known.features)
    assert row.takes_sampling == ("temperature" not in known.unsupported_parameters)


AT_BEDROCK = (
    "claude-3-5-sonnet-20241022-v2:0", "claude-3-7-sonnet-20250219-v1:0", "claude-sonnet-4-20250514-v1:0",
    "claude-opus-4-20250514-v1:0", "claude-opus-4-1-20250805-v1:0", "claude-haiku-4-5-20251001-v1:0",
    "claude-sonnet-4-5-20250929-v1:0", "claude-opus-4-5-20251101-v1:0", "claude-opus-4-6-v1", "claude-sonnet-4-6",
    *(model.model for model in CLAUDES),
)  # fmt: skip


@pytest.mark.parametrize("name", dict.fromkeys(AT_BEDROCK))
def test_a_model_at_bedrock_is_what_anthropics_table_says(name: str) -> None:
    kin, row = family(f"us.anthropic.{name}"), facts(name)
    # Those before the first that think are told nothing about it.
    assert kin.reasoning in (row.thinking, None if name.startswith("claude-3-5") else row.thinking)
    assert kin.can_rest != row.is_thinking_always_on
    if kin.reasoning == "adaptive":
        assert kin.efforts == row.efforts
    assert (kin.takes_sampling, kin.takes_prefill) == (row.takes_sampling, row.takes_prefill)
    assert kin.takes_both == (row.takes_temperature_with_top_p or not row.takes_sampling)
