"""What the storm has shown: a table, and what of it must not be."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

from gateway_core.storage.ledger_proof import Proof
from tests.faults.storm_callers import Seen
from tests.faults.storm_vendor import FINAL, HARMLESS, Vendor

RESERVE = 10
"""Attempts that are lent at the start, as routing.retry_reserve says."""
PART = 0.2
GAVE_UP_AT_MOST = 0.05
"""Of the calls, where one of two targets is well: the retry budget cannot pay for more."""
LONG_SECONDS = 240.0
"""From here on memory must be flat, and few calls fail; before, memory is warmed up, and a busy machine may make a vendor
that is well look silent."""
MEBIBYTE = 1 << 20


@dataclass(slots=True)
class Report:
    """Of one server."""

    name: str
    seen: Sequence[Seen]
    sizes: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    seconds: float = 0.0
    in_flight: Mapping[str, float] = field(default_factory=dict)
    metrics: str = ""
    still_answering: int = 0
    exit_code: int | None = None
    errors: Sequence[str] = ()
    proof: Proof | None = None
    requests: Sequence[Mapping[str, Any]] = ()
    wrong_rows: Sequence[str] = ()
    vendors: Mapping[str, Vendor] = field(default_factory=dict)

    @property
    def attempt_count(self) -> int:
        return sum(row["attempt_count"] for row in self.requests)

    @property
    def vendor_count(self) -> int:
        return sum(vendor.request_count for vendor in self.vendors.values())

    @property
    def attempts_at_most(self) -> float:
        return (1 + PART) * len(self.requests) + RESERVE + self.seconds / 10

    def faults_of(self, call: Seen) -> list[str]:
        return [name for vendor in self.vendors.values() for name in vendor.by_seed.get(call.seed, ())]


def gauge(metrics: str, name: str) -> float:
    """The value of a metric without labels."""
    found = re.search(rf"^{name} (\S+)$", metrics, re.MULTILINE)
    return float(found[1]) if found else 0.0


def problems(report: Report) -> Iterator[str]:
    """A sentence for each thing that must not be."""
    yield from (
        f"{call.outcome}: {call}, {report.faults_of(call)}" for call in report.seen if call.outcome in ("hung", "wrong")
    )
    assert report.proof is not None
    yield from report.proof.faults
    if report.proof.open_count:
        yield f"{report.proof.open_count} calls are open"
    yield from report.wrong_rows
    yield from (f"the server's log: {line}" for line in report.errors)
    if any(report.in_flight.values()) or report.still_answering or report.exit_code:
        yield f"in flight: {report.in_flight}, vendors still answer {report.still_answering}, exit code {report.exit_code}"
    most = max(report.attempt_count, report.vendor_count)
    if most > report.attempts_at_most:
        yield f"{most} attempts, and at most {report.attempts_at_most:.0f} there may be"
    if report.seconds >= LONG_SECONDS:
        yield from gave_up(report)
        yield from growth("memory", report.sizes, 8 * MEBIBYTE)
        yield from growth("files", report.files, 10)


def gave_up(report: Report) -> Iterator[str]:
    """Where a target is well, few calls may fail, but for what no other target is asked for."""
    if all(vendor.fault_rate for vendor in report.vendors.values()):
        return
    failed = [call for call in report.seen if call.outcome == "failed" and not is_due(report, call)]
    if len(failed) > GAVE_UP_AT_MOST * len(report.seen) + 3:
        yield f"{len(failed)} of {len(report.seen)} calls failed"


def is_due(report: Report, call: Seen) -> bool:
    """Whether a call had to fail: for its deadline, its account, what its vendor said last, or since words differ."""
    if call.deadline is not None or call.key == "poor" or (call.is_own and call.stream):
        return True
    return bool(FINAL.intersection(report.faults_of(call)))


def growth(name: str, values: Sequence[int], allowed: int) -> Iterator[str]:
    """What is more at the end than after the warm-up."""
    quarter = len(values) // 4
    warm, end = median(values[quarter : 2 * quarter]), median(values[-quarter:])
    if end > 1.1 * warm + allowed:
        yield f"{name} grows: {warm:.0f} in the second quarter, {end:.0f} in the last"


def printed(report: Report) -> str:
    """The tables."""
    return "\n".join([f"\n== {report.name}", *calls(report), "", *faults(report), "", *totals(report)])


def calls(report: Report) -> Iterator[str]:
    yield f"{'calls':<22}{'number':>8}{'whole':>8}{'left':>7}{'failed':>8}{'wrong':>7}{'hung':>6}{'median s':>10}{'p99 s':>8}{'max s':>8}"
    groups: dict[str, list[Seen]] = {}
    for call in report.seen:
        what = "tools" if call.tools else "text"
        groups.setdefault(f"{call.kind} {'stream' if call.stream else 'unary'} {what}", []).append(call)
        if call.deadline is not None:
            groups.setdefault("with a deadline", []).append(call)
        if call.leaves_after is not None:
            groups.setdefault("that would leave", []).append(call)
    for name, group in [*sorted(groups.items()), ("all", list(report.seen))]:
        counts = Counter(call.outcome for call in group)
        times = [call.seconds for call in group]
        cells = "".join(
            f"{counts[key]:>{width}}"
            for key, width in (("whole", 8), ("left", 7), ("failed", 8), ("wrong", 7), ("hung", 6))
        )
        last = quantiles(times, n=100)[98] if len(times) > 1 else times[0]
        yield f"{name:<22}{len(group):>8}{cells}{median(times):>10.3f}{last:>8.2f}{max(times):>8.2f}"
    late = [call.seconds - call.deadline for call in report.seen if call.deadline is not None]
    yield f"latest end after a deadline: {max(late, default=0.0):.3f} s"
    codes = Counter(call.code for call in report.seen if call.outcome == "failed")
    yield "failed with: " + ", ".join(f"{code} {count}" for code, count in codes.most_common())
    gave = [call for call in report.seen if call.outcome == "failed" and not is_due(report, call)]
    yield f"failed though neither deadline, account, filter, refusal nor other words were the reason: {len(gave)}"


def faults(report: Report) -> Iterator[str]:
    """What vendors did, and what became of the calls to which they did it."""
    yield f"{'fault':<34}{'times':>7}{'whole':>8}{'left':>7}{'failed':>8}{'wrong':>7}{'hung':>6}"
    by_fault: dict[str, Counter[str]] = {}
    for call in report.seen:
        for name in set(report.faults_of(call)):
            by_fault.setdefault(name, Counter())[call.outcome] += 1
    served = sum((vendor.faults for vendor in report.vendors.values()), Counter[str]())
    for name, count in sorted(served.items()):
        seen = by_fault.get(name, Counter())
        mark = " *" if name in FINAL else " °" if name in HARMLESS else ""
        yield f"{name + mark:<34}{count:>7}{seen['whole']:>8}{seen['left']:>7}{seen['failed']:>8}{seen['wrong']:>7}{seen['hung']:>6}"
    yield "* no other target is asked, or none that is not larger; ° the answer is whole all the same"


def totals(report: Report) -> Iterator[str]:
    assert report.proof is not None
    number = len(report.requests) or 1
    statuses = Counter(row["status"] for row in report.requests)
    vendors = ", ".join(
        f"{name} {each.request_count} requests, {each.faults.total()} faults" for name, each in report.vendors.items()
    )
    yield f"{report.seconds:.0f} s, {len(report.seen) / report.seconds:.1f} calls a second; vendors: {vendors}"
    yield f"ledger: {len(report.requests)} records, {report.proof.open_count} open, faults {list(report.proof.faults)}, wrong {len(report.wrong_rows)}; {dict(statuses)}"
    yield f"charged {report.proof.charged / 10**12:.6f} USD = the balances' movement"
    yield f"attempts: {report.attempt_count} ({report.attempt_count / number:.3f} a call), at the vendors {report.vendor_count} ({report.vendor_count / number:.3f}); allowed {report.attempts_at_most:.0f}; refused by the budget {gauge(report.metrics, 'headgate_retries_refused_total'):.0f}"
    yield f"in flight at the end: {dict(report.in_flight)}; vendors that still answer: {report.still_answering}; exit code {report.exit_code}; errors logged: {len(report.errors)}"
    step = max(1, len(report.sizes) // 10)
    yield "memory, MiB: " + " ".join(
        f"{median(report.sizes[at : at + step]) / MEBIBYTE:.1f}" for at in range(0, len(report.sizes), step)
    )
    yield "open files:  " + " ".join(
        f"{median(report.files[at : at + step]):.0f}" for at in range(0, len(report.files), step)
    )
