"""How much of a limit a process uses while the store that it shares with others does not answer."""

from gateway_core.metering.window import SECOND_US, Window
from gateway_core.storage.lease_store import Away

STEP_US = 60 * SECOND_US
"""While the store is away, a process may use one lease more of a window that had begun before, each time."""


def may_use(window: Window, leased: int, lease: int, away: Away, now_us: int) -> int:
    """Most units of a window that a process uses in all, of which it has leased some; takes the size of a lease.

    Of a window that began after the store was gone it is the process's share: the limit, divided by the processes that
    there were, and at least 1. Where it never knew of the others, it is a lease.

    In a window that had begun before, others may have all the rest, so that it is what was leased and one lease more:
    what all use together exceeds the limit by no more than a lease of each. Calls must go on where that window is long:
    with each minute it is a lease more, until that is the share.
    """
    share = lease if away.processes is None else max(1, window.limit // max(1, away.processes))
    if window.start_us >= away.since_us:
        return share
    steps = 1 + max(0, now_us - away.since_us) // STEP_US
    return min(window.limit, max(leased + lease, min(share, leased + steps * lease)))
