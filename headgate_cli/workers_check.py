"""The check of `headgate doctor` that looks at the number of workers."""

import sys
from collections.abc import Iterator
from typing import Literal

from headgate_cli.checks import Check
from headgate_cli.workers import processors, worker_count


def workers_checks(configured: int | Literal["auto"], platform: str = sys.platform) -> Iterator[Check]:
    """Whether there can be so many, and whether they have a processor each. Nothing: there is one."""
    count, there = worker_count(None, configured), processors()
    if count == 1:
        return
    text = f"{count} on {there} {'processor' if there == 1 else 'processors'}"
    if platform != "linux":
        yield Check("wrong", "workers", f"{text}: more than one need Linux", "leave `workers` out")
    elif count > there:
        yield Check("note", "workers", text, "more workers than processors take memory, and serve no more calls")
    else:
        yield Check("ok", "workers", text)
