"""A circuit: keeps calls from a target that fails, and lets one of them try from time to time whether it still does.

Closed: all may pass. Open: none may, for a time. Half open: one may at a time; what becomes of it closes or opens.
"""

from typing import Literal

from gateway_core.config import CircuitConfig

State = Literal["closed", "half_open", "open"]


class Circuit:
    """Of one target. Pure: who asks tells the time, in seconds of any one clock.

    While nothing fails nothing is counted: a window begins with a failure. When a call went well last is known.
    """

    __slots__ = (
        "_config", "_failures", "_own_answers", "_successes", "_window_ends", "is_adopted", "is_targets_own",
        "opened_at", "probing_until", "state", "well_at",
    )  # fmt: skip

    def __init__(self, config: CircuitConfig) -> None:
        """Begins closed."""
        self._config = config
        self.state: State = "closed"
        self.opened_at = 0.0
        """When it opened last, without having closed since."""
        self.probing_until = 0.0
        """Until when the call that tries counts as being on its way: who hangs is not waited for."""
        self.is_targets_own = False
        """Whether it opened for what the target itself answered, so that it would have opened anywhere."""
        self.is_adopted = False
        """Whether it opened because other processes say so."""
        self.well_at: float | None = None
        """When a call went well here last. None: none did."""
        self._window_ends = 0.0
        self._failures = self._successes = self._own_answers = 0

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has failed lately, so that successes need not be told."""
        return not self._failures and self.state == "closed"

    def was_well(self, now: float) -> bool:
        """Whether a call went well here within as much time as a window has."""
        return self.well_at is not None and now - self.well_at < self._config.window_seconds

    def shown(self, now: float) -> State:
        """Its state: an open one whose time is over is half open, though nobody has tried yet."""
        return "half_open" if self.state == "open" and self._may_try(now) else self.state

    def may_pass(self, now: float) -> bool:
        """Whether a call may pass now."""
        if self.state == "closed":
            return True
        return self._may_try(now) if self.state == "open" else now >= self.probing_until

    def passes(self, now: float) -> None:
        """Tells that a call passes: through an open circuit it is the one that tries."""
        if self.state != "closed":
            self.state = "half_open"
            self.probing_until = now + self._config.open_seconds

    def succeeded(self, now: float) -> None:
        """Tells that a call went well."""
        self.well_at = now
        if self.state == "half_open":
            self.close()
        elif self._failures and self.state == "closed":
            if now >= self._window_ends:
                self._failures = self._successes = 0
            else:
                self._successes += 1

    def failed(self, now: float, *, is_targets_own: bool = False) -> None:
        """Tells that a call failed in a way that speaks against the target; and whether the target itself told so."""
        if self.state == "closed":
            if not self._failures or now >= self._window_ends:
                self._window_ends = now + self._config.window_seconds
                self._failures = self._successes = self._own_answers = 0
            self._failures += 1
            self._own_answers += is_targets_own
            rate = self._failures / (self._failures + self._successes)
            if self._failures < self._config.failures or rate < self._config.failure_rate:
                return
            self.opened_at = now
            self.is_targets_own = self._own_answers >= self._config.failures
        elif self.state == "open":
            return  # a call that passed before it opened
        else:
            self.is_targets_own = is_targets_own
        self.state = "open"
        self.is_adopted = False
        self.probing_until = now + self._config.open_seconds

    def adopt(self, now: float, until: float) -> None:
        """Opens because others say so, or stays open for longer. What this process knows by itself counts more."""
        if self.state == "closed":
            self.opened_at = now
        elif not self.is_adopted or self.state == "half_open":
            return
        self.state = "open"
        self.is_adopted = True
        self.probing_until = until

    def close(self) -> None:
        """Closes: a call went well, here or elsewhere."""
        self.state = "closed"
        self.is_adopted = False
        self._failures = self._successes = self._own_answers = 0

    def left(self) -> None:
        """Tells that a call ended without showing anything: another may try at once."""
        if self.state == "half_open":
            self.probing_until = 0.0

    def _may_try(self, now: float) -> bool:
        return now >= self.probing_until
