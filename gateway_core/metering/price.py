"""Prices and costs in integers: picodollars (10^-12 US dollars), so that nothing is ever rounded but once."""

from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

from gateway_core.config import Config, PriceConfig
from gateway_core.tokens import Counts
from gateway_core.usd import PICO as PICO
from gateway_core.usd import usd_text as usd_text

MILLION = 10**6


class Multiplier(NamedTuple):
    """What a plan multiplies prices by: an exact rational number."""

    numerator: int = 1
    denominator: int = 1
    text: str | None = None
    """As a decimal number. None: 1."""


UNCHANGED = Multiplier()
Multiple = tuple[int, int, str | None]
"""A multiplier as a call has it."""


class Price(NamedTuple):
    """What a model costs: picodollars for a million tokens of each class."""

    input: int
    cached_input: int
    cache_write: int
    output: int
    input_audio: int
    output_audio: int
    texts: tuple[str | None, ...]
    """The same, in US dollars as decimal numbers in this order. None: not given."""

    def cost(self, tokens: Counts, multiplier: Multiple = UNCHANGED) -> int:
        """Picodollars, rounded once, half up. What is not told is not charged; reasoning is part of the completion.

        Subsets that exceed what they are of are charged as they were told, and nothing beside them.
        """
        prompt, cached, cache_write, prompt_audio, completion, _, completion_audio = tokens
        total = 0
        if completion:
            total = completion * self.output
        if completion_audio:
            total += completion_audio * self.output_audio - min(completion_audio, completion or 0) * self.output
        if prompt:
            rest = prompt
            if cached or cache_write or prompt_audio:
                total += (cached or 0) * self.cached_input
                total += (cache_write or 0) * self.cache_write
                total += (prompt_audio or 0) * self.input_audio
                rest = max(0, prompt - (cached or 0) - (cache_write or 0) - (prompt_audio or 0))
            total += rest * self.input
        numerator, denominator, _ = multiplier
        if denominator == numerator:
            return (total + 500_000) // MILLION
        divisor = MILLION * denominator
        return (2 * total * numerator + divisor) // (2 * divisor)


def price_of(row: PriceConfig) -> Price | None:
    """The price in a row of the configuration. None: it names neither input nor output, so that nothing is known."""
    if row.input_per_million is None and row.output_per_million is None:
        return None
    given = (
        row.input_per_million,
        row.cached_input_per_million,
        row.cache_write_per_million,
        row.output_per_million,
        row.audio_input_per_million,
        row.audio_output_per_million,
    )
    return price_of_texts(tuple(None if value is None else decimal_text(value) for value in given))


def price_of_texts(texts: tuple[str | None, ...]) -> Price:
    """The price whose decimal numbers these are, in the order of Price: as the ledger has them."""
    input_, cached_input, cache_write, output, input_audio, output_audio = (
        None if text is None else pico_usd(text) for text in texts
    )
    return Price(
        input_ or 0,
        default(cached_input, input_),
        default(cache_write, input_),
        output or 0,
        default(input_audio, input_),
        default(output_audio, output),
        texts,
    )


def default(value: int | None, other: int | None) -> int:
    """A price, or that in whose place it stands: an explicit 0 is 0."""
    return (other or 0) if value is None else value


def prices(config: Config) -> Mapping[str, Price]:
    """The prices of the configuration's models, by name; and those of their targets, as "provider/model".

    Where rows with the same target disagree, it costs what the dearest of them does.
    """
    named: dict[str, Price] = {}
    direct: dict[str, Price] = {}
    for name, row in config.models.items():
        price = price_of(row.price) if row.price is not None else None
        if price is not None:
            named[name] = price
            for target in row.targets:
                place = f"{target.provider}/{target.model}"
                direct[place] = dearest(direct.get(place, price), price)
    return direct | named


def dearest(one: Price, other: Price) -> Price:
    """What costs for each class of tokens as much as the dearer of two."""
    if one == other:
        return one
    highest = map(max, one[:-1], other[:-1])
    return price_of_texts(tuple(map(usd_text, highest)))


def is_unpriced(config: Config, prices: Mapping[str, Price]) -> Callable[[str], bool]:
    """Tells by its name whether a model is refused to sub-accounts, since nobody has said what it costs.

    A row without a price says so, of its own name and of its targets: nothing. So does the echo.
    """
    if config.unpriced_models == "allow":
        return lambda name: False
    free = {f"{target.provider}/{target.model}" for row in config.models.values() for target in row.targets}
    free |= config.models.keys()
    echoes = {name for name, row in config.providers.items() if row.kind == "echo"}
    return lambda name: not (name in prices or name in free or name.partition("/")[0] in echoes)


def pico_usd(usd: str | Decimal) -> int:
    """US dollars, as picodollars, half up."""
    return int((Decimal(usd) * PICO).to_integral_value(ROUND_HALF_UP))


def decimal_text(value: Decimal) -> str:
    """A decimal number as text: no exponent, no zeros at its end."""
    text = f"{value:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def multiplier_of(text: str | None) -> Multiplier:
    """The multiplier that a decimal number is."""
    if not text:
        return UNCHANGED
    numerator, denominator = Decimal(text).as_integer_ratio()
    return Multiplier(numerator, denominator, text)
