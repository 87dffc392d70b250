from decimal import Decimal
from typing import Any

import pytest
from headgate.v1.token_usage_pb2 import CompletionTokensDetails, PromptTokensDetails, TokenUsage
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.config import Config, ModelConfig, PriceConfig, ProviderConfig, TargetConfig
from gateway_core.metering.price import (
    PICO,
    Price,
    decimal_text,
    is_unpriced,
    multiplier_of,
    pico_usd,
    price_of,
    prices,
    usd_text,
)
from gateway_core.tokens import UNTOLD, Tokens, tokens_of

ROW = PriceConfig(
    input_per_million=Decimal("0.15"),
    cached_input_per_million=Decimal("0.075"),
    cache_write_per_million=Decimal("0.1875"),
    output_per_million=Decimal("0.6"),
)


def price(**values: str) -> Price:
    found = price_of(PriceConfig(**{name: Decimal(text) for name, text in values.items()}))
    assert found is not None
    return found


def test_a_cost_is_exact() -> None:
    found = price_of(ROW)
    assert found is not None
    cost = found.cost(Tokens(prompt=1000, cached=200, cache_write=100, completion=50, reasoning=40))
    expected = (700 * Decimal("0.15") + 200 * Decimal("0.075") + 100 * Decimal("0.1875") + 50 * Decimal("0.6")) / 10**6
    assert Decimal(usd_text(cost)) == expected


def test_audio_has_a_price_of_its_own() -> None:
    found = price(
        input_per_million="1", output_per_million="2", audio_input_per_million="10", audio_output_per_million="20"
    )
    cost = found.cost(Tokens(prompt=10, prompt_audio=4, completion=10, completion_audio=3))
    assert cost == (6 * 1 + 4 * 10 + 7 * 2 + 3 * 20) * 10**6


def test_audio_without_a_price_costs_what_text_does() -> None:
    found = price(input_per_million="1", output_per_million="2")
    assert found.cost(Tokens(prompt=10, prompt_audio=4, completion=10, completion_audio=3)) == 30 * 10**6


def test_an_explicit_price_of_nothing_is_nothing() -> None:
    found = price(input_per_million="1", cached_input_per_million="0", output_per_million="0")
    assert found.cost(Tokens(prompt=10, cached=10, completion=5)) == 0


def test_what_is_not_told_is_not_charged() -> None:
    assert price(input_per_million="1", output_per_million="2").cost(UNTOLD) == 0


def test_a_subset_larger_than_its_whole_makes_no_negative_cost() -> None:
    found = price(input_per_million="2", cached_input_per_million="1", output_per_million="0")
    assert found.cost(Tokens(prompt=10, cached=30)) == 30 * 10**6


def test_classes_are_added_before_the_one_rounding() -> None:
    # 0.4 picodollars of each: together 0.8, which is 1.
    found = price(input_per_million="0.0000004", output_per_million="0.0000004")
    assert found.cost(Tokens(prompt=1, completion=1)) == 1
    assert found.cost(Tokens(prompt=1)) == 0


def test_a_multiplier_is_applied_before_the_rounding() -> None:
    found = price(input_per_million="0.000001", output_per_million="0")
    assert found.cost(Tokens(prompt=1)) == 1
    assert found.cost(Tokens(prompt=1), multiplier_of("1.5")) == 2
    assert found.cost(Tokens(prompt=1), multiplier_of("0.4")) == 0
    assert found.cost(Tokens(prompt=3), multiplier_of("0.5")) == 2
    assert found.cost(Tokens(prompt=3), multiplier_of("0")) == 0


def test_without_input_and_output_the_price_is_not_known() -> None:
    assert price_of(PriceConfig(cache_write_per_million=Decimal(1))) is None


def test_a_providers_zero_is_zero_and_what_it_does_not_tell_is_not() -> None:
    told = tokens_of(TokenUsage(prompt_tokens_details=PromptTokensDetails(cached_tokens=0)))
    assert told == Tokens(prompt=0, cached=0, completion=0)


def test_all_classes_are_read() -> None:
    usage = TokenUsage(
        prompt_tokens=10, completion_tokens=20,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=1, cache_write_tokens=2, audio_tokens=3),
        completion_tokens_details=CompletionTokensDetails(reasoning_tokens=4, audio_tokens=5),
    )  # fmt: skip
    assert tokens_of(usage) == Tokens(10, 1, 2, 3, 20, 4, 5)


def test_a_number_that_cannot_be_meant_is_not_believed() -> None:
    assert tokens_of(TokenUsage(prompt_tokens=-5, completion_tokens=2**62)) == Tokens(prompt=0, completion=10**9)


NUMBERS = st.none() | st.sampled_from([0, 1, -1, 10**9, 10**9 + 1, 2**62, -(2**63)]) | st.integers(0, 10**6)
PROMPT = ("cached_tokens", "cache_write_tokens", "audio_tokens")
COMPLETION = ("reasoning_tokens", "audio_tokens")


@given(st.tuples(*[NUMBERS] * 7), st.booleans(), st.booleans())
def test_each_class_is_what_was_told_of_it_within_what_can_be_meant(
    numbers: tuple[int | None, ...], has_prompt: bool, has_completion: bool
) -> None:
    prompt, completion, *subsets = numbers
    usage = TokenUsage(prompt_tokens=prompt, completion_tokens=completion)
    of_prompt: dict[str, Any] = dict(zip(PROMPT, subsets[:3], strict=True)) if has_prompt else {}
    of_completion: dict[str, Any] = dict(zip(COMPLETION, subsets[3:], strict=True)) if has_completion else {}
    if has_prompt:
        usage.prompt_tokens_details.CopyFrom(PromptTokensDetails(**of_prompt))
    if has_completion:
        usage.completion_tokens_details.CopyFrom(CompletionTokensDetails(**of_completion))

    def within(told: int | None) -> int | None:
        return None if told is None else min(max(told, 0), 10**9)

    expected = [within(prompt or 0), *(within(of_prompt.get(name)) for name in PROMPT)]
    expected += [within(completion or 0), *(within(of_completion.get(name)) for name in COMPLETION)]
    assert list(tokens_of(usage)) == expected


def configured(**settings: Any) -> Config:
    both = (TargetConfig(provider="lab", model="x"), TargetConfig(provider="other", model="x"))
    return Config(
        providers={
            "lab": ProviderConfig(kind="openai", base_url="http://127.0.0.1:1/v1"),
            "other": ProviderConfig(kind="openai", base_url="http://127.0.0.1:2/v1"),
            "echo": ProviderConfig(kind="echo"),
        },
        models={
            "small": ModelConfig(targets=(TargetConfig(provider="lab", model="tiny"),), price=ROW),
            "both": ModelConfig(targets=both, price=ROW),
            "free": ModelConfig(targets=(TargetConfig(provider="lab", model="y"),)),
        },
        **settings,
    )


def test_a_model_by_any_of_its_targets_costs_the_same() -> None:
    found = prices(configured())
    assert set(found) == {"small", "lab/tiny", "both", "lab/x", "other/x"}
    assert len(set(found.values())) == 1


def test_a_target_of_several_rows_costs_what_the_dearest_does() -> None:
    target = (TargetConfig(provider="echo", model="x"),)
    rows = [("1", "2"), ("0.5", "4"), ("0.1", "0.1")]
    models = {
        f"row{number}": ModelConfig(
            targets=target, price=PriceConfig(input_per_million=Decimal(input_), output_per_million=Decimal(output))
        )
        for number, (input_, output) in enumerate(rows)
    }
    found = prices(Config(models=models))["echo/x"]
    assert found == price(
        input_per_million="1", cached_input_per_million="1", cache_write_per_million="1", output_per_million="4",
        audio_input_per_million="1", audio_output_per_million="4",
    )  # fmt: skip
    assert found.texts == ("1", "1", "1", "4", "1", "4")


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("both", False), ("other/x", False), ("free", False), ("lab/y", False), ("echo/anything", False),
        ("lab/z", True), ("other/y", True), ("lab/free", True),
    ],
)  # fmt: skip
def test_what_no_row_names_and_nobody_has_priced_is_unpriced(model: str, *, expected: bool) -> None:
    config = configured()
    assert is_unpriced(config, prices(config))(model) is expected


def test_what_nobody_has_priced_may_be_allowed() -> None:
    config = configured(unpriced_models="allow")
    assert not is_unpriced(config, prices(config))("lab/z")


@pytest.mark.parametrize(
    ("pico", "text"),
    [
        (0, "0"),
        (1, "0.000000000001"),
        (PICO // 10, "0.1"),
        (PICO - 1, "0.999999999999"),
        (PICO, "1"),
        (PICO + 1, "1.000000000001"),
        (-123 * 10**6, "-0.000123"),
        (15 * PICO // 10, "1.5"),
        (100 * PICO, "100"),
    ],
)
def test_money_is_printed_as_a_plain_decimal_number(pico: int, text: str) -> None:
    assert usd_text(pico) == text


@given(st.integers(-(10**24), 10**24))
def test_printed_money_is_read_as_the_same(pico: int) -> None:
    text = usd_text(pico)
    assert pico_usd(text) == pico
    assert text == (f"{Decimal(pico).scaleb(-12):f}".rstrip("0").rstrip(".") if pico % PICO else str(pico // PICO))


@pytest.mark.parametrize(
    ("given_", "text"), [("1E+2", "100"), ("0.150", "0.15"), ("0", "0"), ("1E-7", "0.0000001"), ("0.0", "0")]
)
def test_a_price_is_told_without_exponent(given_: str, text: str) -> None:
    assert decimal_text(Decimal(given_)) == text
