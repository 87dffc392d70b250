"""Prices as the OpenAI dialect tells them, for people: US dollars for a million tokens instead of one."""

from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any

NAMES = {
    "prompt": "input_per_million",
    "completion": "output_per_million",
    "input_cache_read": "cached_input_per_million",
    "input_cache_write": "cache_write_per_million",
    "audio": "audio_input_per_million",
}
"""Names of prices in the OpenAI dialect, and in the contract."""


def per_million(pricing: Mapping[str, Any]) -> dict[str, str]:
    """The prices of a million tokens, where those of one token are decimal numbers."""
    found = {}
    for name, of_one in NAMES.items():
        with suppress(ArithmeticError):
            price = Decimal(str(pricing.get(name))).scaleb(6)
            if price.is_finite() and price >= 0:
                text = f"{price:f}"
                found[of_one] = text.rstrip("0").rstrip(".") if "." in text else text
    return found
