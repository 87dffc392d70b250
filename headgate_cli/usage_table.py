"""The table of `headgate usage`: a row for each summary, with a bar of its cost where a person reads it."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from rich.cells import cell_len, chop_cells, set_cell_size

HEADINGS = ("CALLS", "FAILED", "INPUT", "OUTPUT", "COST $")
NAMES = {"key": "LABEL", "gateway": "SLUG", "account": "NAME"}
"""What groups are called whose own name is an id."""
BAR_CHARACTERS = 30
SHORTEST_BAR = 8
GAP = "  "
BLOCKS = " ▏▎▍▌▋▊▉█"

Document = dict[str, Any]


def table(document: Document, by: str, names: Mapping[str, str], width: int | None) -> list[str]:
    """The lines of a table on so many characters; None where no person reads it: without bars.

    No digit is left out and no id is folded: where there is little room the bars are shorter or missing, and then other
    names are folded. `names` are those of groups whose own name is an id.
    """
    summaries = document.get("summaries") or []
    groups = [printable(summary.get("group") or "(none)") for summary in summaries]
    cells = aligned([numbers(summary) for summary in [*summaries, document.get("total") or {}]])
    columns = [list(column) for column in zip(HEADINGS, *cells, strict=True)]
    right = [GAP.join(row) for row in zip(*(justified(column) for column in columns), strict=True)]
    left = [by.upper(), *groups, "total"]
    if by in NAMES:
        known = [printable(names.get(summary.get("group") or "", "")) for summary in summaries]
        left = [GAP.join(row) for row in zip(padded(left), padded([NAMES[by], *known, ""]), strict=True)]
    room = 0 if width is None else width - len(right[0]) - len(GAP)
    longest = max(map(cell_len, left))
    if by not in NAMES and width is not None:
        longest = max(1, min(longest, room - SHORTEST_BAR - len(GAP)))
    bars = bars_of([Decimal(summary.get("cost_usd") or 0) for summary in summaries], room - longest - len(GAP))
    return [line for row in zip(left, right, ["", *bars, ""], strict=True) for line in lines_of(*row, longest)]


def lines_of(name: str, cells: str, bar: str, characters: int) -> Iterator[str]:
    """A row: its name on so many characters, and what is longer of it in lines of its own."""
    first, *rest = chop_cells(name, characters) or [""]
    yield f"{set_cell_size(first, characters)}{GAP}{cells}{GAP}{bar}".rstrip()
    yield from rest


def printable(text: str) -> str:
    """A text without what a terminal would obey."""
    return "".join(each if each.isprintable() else "�" for each in text)


def padded(texts: Sequence[str]) -> list[str]:
    """Texts of one width."""
    widest = max(map(cell_len, texts))
    return [set_cell_size(text, widest) for text in texts]


def justified(texts: Sequence[str]) -> list[str]:
    """Numbers of one width, below one another."""
    widest = max(map(len, texts))
    return [text.rjust(widest) for text in texts]


def aligned(rows: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The rows with as many decimal places in each cost, the last cell, as the longest has."""
    places = max(len(row[-1].partition(".")[2]) for row in rows)
    return [(*row[:-1], f"{Decimal(row[-1]):.{places}f}") for row in rows]


def numbers(summary: Document) -> tuple[str, ...]:
    """What a row says in numbers."""
    usage = summary.get("usage") or {}
    counts = (
        summary.get("request_count"),
        summary.get("failed_request_count"),
        usage.get("prompt_tokens"),
        usage.get("completion_tokens"),
    )
    return (*(f"{int(count or 0):,}" for count in counts), summary.get("cost_usd") or "0")


def bars_of(costs: Sequence[Decimal], characters: int = BAR_CHARACTERS) -> list[str]:
    """A bar for each cost, the longest for the highest, in eighths of a character; none where there is no room."""
    characters = min(characters, BAR_CHARACTERS)
    highest = max(costs, default=Decimal(0))
    if not highest or characters < SHORTEST_BAR:
        return [""] * len(costs)
    eighths = [int(cost / highest * characters * 8) for cost in costs]
    return [(BLOCKS[8] * (count // 8) + BLOCKS[count % 8]).rstrip() for count in eighths]
