"""Figures as text: aligned columns."""

from collections.abc import Sequence

from bench.figures import Figures

_CPU_HEAD = [
    *("scenario", "server", "µs/request", "to Envoy", "to floor", "µs/event"),
    *("requests/s", "busy", "mock µs", "load µs", "MiB"),
]
_LATENCY_HEAD = [
    *("scenario", "server", "p50", "p95", "p99", "added p50", "added p99", "µs/request", "to Envoy"),
]


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 2) -> list[str]:
    """Lines of columns, the first few to the left and the numbers to the right."""
    widths = [max(len(row[place]) for row in [head, *rows]) for place in range(len(head))]
    lines = []
    for row in [head, ["-" * width for width in widths], *rows]:
        cells = [
            cell.ljust(width) if place < texts else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def range_text(spread: Figures | None, digits: int = 2) -> str:
    """Median (lowest-highest)."""
    if spread is None:
        return ""
    return f"{spread['median']:.{digits}f} ({spread['lowest']:.{digits}f}-{spread['highest']:.{digits}f})"


def cpu_table(rows: Sequence[Figures]) -> list[str]:
    """CPU of each row, of the scenarios that are asked as fast as they are answered."""
    return aligned(_CPU_HEAD, [_cpu_cells(row) for row in rows if "latency_ms" not in row])


def callers_table(rows: Sequence[Figures], connections: Sequence[int]) -> list[str]:
    """CPU and its ratio to Envoy (or, where Envoy does not speak it, to the floor) by the number of callers."""
    cells: dict[tuple[str, str], dict[int, str]] = {}
    for row in rows:
        if "latency_ms" not in row:
            ratio = row.get("ratio_to_floor") or row.get("ratio_to_envoy")
            text = f"{row['cpu_us_per_request']['median']:.1f}" + (f" ({ratio['median']:.2f})" if ratio else "")
            cells.setdefault((row["scenario"], row["server"]), {})[row["connections"]] = text
    lines = [
        [scenario, server, *(by_count.get(count, "") for count in connections)]
        for (scenario, server), by_count in cells.items()
        if len(by_count) > 1
    ]
    return aligned(["scenario", "server", *(f"{count} callers" for count in connections)], lines)


def latency_table(rows: Sequence[Figures]) -> list[str]:
    """Latencies of each row, of the scenarios that are asked at a fixed rate."""
    return aligned(_LATENCY_HEAD, [_latency_cells(row) for row in rows if "latency_ms" in row])


def memory_table(rows: Sequence[Figures]) -> list[str]:
    """What open streams take, a row for each server and wire."""
    head = [
        "server",
        "wire",
        "streams",
        "whole",
        "KiB/stream",
        "MiB before",
        "open",
        "after",
        "opened in s",
        "finished",
    ]
    names = ("streams", "whole", "kib_per_stream", "mib_before", "mib_open", "mib_after", "open_seconds")
    return aligned(
        head,
        [
            [row["server"], row["wire"], *(str(row[name]) for name in (*names, "finish_seconds"))]
            for row in rows
            if row.get("streams")
        ],
    )


def _cpu_cells(row: Figures) -> list[str]:
    return [
        row["scenario"],
        row["server"],
        f"{row['cpu_us_per_request']['median']:.1f}",
        range_text(row.get("ratio_to_envoy")),
        range_text(row.get("ratio_to_floor")),
        f"{row['cpu_us_per_event']['median']:.2f}" if "cpu_us_per_event" in row else "",
        f"{row['requests_per_second']['median']:.0f}",
        f"{row['server_busy_share']['median']:.0%}",
        f"{row['mock_cpu_us_per_request']['median']:.1f}",
        f"{row['load_cpu_us_per_request']['median']:.1f}",
        f"{row['server_mib']:.0f}",
    ]


def _latency_cells(row: Figures) -> list[str]:
    added = row.get("added_ms")
    return [
        row["scenario"],
        row["server"],
        *(f"{row['latency_ms'][name]['median']:.3f}" for name in ("p50", "p95", "p99")),
        *(range_text(added[name], 3) if added else "" for name in ("p50", "p99")),
        f"{row['cpu_us_per_request']['median']:.1f}",
        range_text(row.get("ratio_to_envoy")),
    ]
