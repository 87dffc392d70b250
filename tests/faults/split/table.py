"""What a run has shown, as a table in Markdown."""

from collections import Counter

from tests.faults.split.callers import OK
from tests.faults.split.run import Phase, Report
from tests.faults.split.stand import LIMIT

WAITED_SECONDS = 2.0


def table(report: Report) -> str:
    """A row for each state, and what the ledger says of all."""
    rows = [
        "| state | calls | whole | not whole | longest wait for a whole answer |",
        "| --- | --- | --- | --- | --- |",
    ]
    rows += [row(phase) for phase in report.phases]
    ledger = report.ledger
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(ledger.statuses.items()))
    return "\n".join(
        (
            *rows,
            "",
            f"Ledger: {statuses}; {ledger.whole} answers seen whole, each with one record and its very cost; "
            f"{ledger.unseen} more were made whole and lost on their way to the caller; {ledger.unwritten} calls left none: "
            f"refused, or failed before a replica began them. Balances agree: {ledger.charged} picodollars. None open, none twice.",
            f"Limit: {LIMIT} requests a day, {ledger.limited} let in. Exit statuses of the replicas: {report.exits}.",
        )
    )


def row(phase: Phase) -> str:
    """One state."""
    steady = [call for call in phase.calls if call.account == "steady"]
    whole = [call.seconds for call in steady if call.word == OK]
    words = Counter(f"{call.kind}: {call.word}" for call in steady if call.word != OK)
    told = "; ".join(f"{count} of {word}" for word, count in words.most_common()) or "none"
    longest = f"{max(whole):.1f} s" if whole else ""
    return f"| {phase.name} ({phase.ended - phase.began:.0f} s) | {len(steady)} | {len(whole)} | {told} | {longest} |"
