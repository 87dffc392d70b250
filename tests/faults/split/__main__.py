"""Replicas, Envoy, PostgreSQL and Redis apart, and each of them lost in turn: what callers saw, what the ledger says.

`python -m tests.faults.split` is `make partitions`; it needs the right to make network namespaces.
"""

import argparse
import asyncio
import random
import sys

from tests.faults.split.network import hindrance
from tests.faults.split.run import LONG, SHORT, run
from tests.faults.split.table import table


def main() -> int:
    """Exit status 1 where the proof fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.split", description=__doc__)
    parser.add_argument("--short", action="store_true", help="the times of the test run")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    reason = hindrance()
    if reason is not None:
        print(reason, file=sys.stderr)
        return 2
    print(f"seed {options.seed}", flush=True)
    report = asyncio.run(run(SHORT if options.short else LONG, random.Random(options.seed), tell=print))
    print(table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
