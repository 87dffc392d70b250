"""Sums of money beyond what a column takes: SQLite's SUM ends where 64 bits do, at about nine million dollars."""

from typing import Any

from sqlalchemy import func

LARGEST = 2**63 - 1
"""Picodollars that a column takes."""
PART = 10**9


def sum_parts(column: Any) -> tuple[Any, Any]:
    """What adds a column up: its parts above and below PART, which `whole` puts together."""
    return func.sum(column // PART), func.sum(column % PART)


def whole(high: Any, low: Any) -> int:
    """The sum whose parts a database gives: as integers or decimals, or as nothing where there are no rows."""
    return int(high or 0) * PART + int(low or 0)
