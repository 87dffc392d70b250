"""A limit in windows of time that begin at multiples of their length since 1970, as one process sees it."""

SECOND_US = 1_000_000


class Window:
    """Units that may be used in the window that is current. Pure: who asks tells the time.

    `granted` is what this process may use of it, `used` what it has used or promised. Where one process has the limit
    for itself everything is granted at once; where several share it, it is granted in leases.
    """

    __slots__ = ("granted", "length_us", "limit", "start_us", "used")

    def __init__(self, limit: int, seconds: int, *, shared: bool = False) -> None:
        """Takes the most units in a time of so many seconds."""
        self.limit = limit
        self.length_us = seconds * SECOND_US
        self.start_us = 0
        self.granted = 0 if shared else limit
        self.used = 0

    def turn(self, now_us: int) -> bool:
        """Begins the window that the time is in; whether it is another than before. What was granted is kept.

        A clock that is set back changes nothing: the window goes on until it would have ended.
        """
        if now_us < self.start_us + self.length_us:
            return False
        self.start_us = now_us - now_us % self.length_us
        self.used = 0
        return True

    def take(self, units: int) -> bool:
        """Uses units; False, and nothing is used, where so many are not left."""
        if self.used + units > self.granted:
            return False
        self.used += units
        return True

    def correct(self, units: int, start_us: int) -> None:
        """Uses more units than were taken in the window that began then, or fewer where negative.

        More than is granted may be used so: the next calls wait for it.
        """
        if start_us == self.start_us:
            used = self.used + units
            self.used = used if used > 0 else 0

    @property
    def left(self) -> int:
        """Units that may still be used of what is granted."""
        return max(0, self.granted - self.used)

    def is_over(self, now_us: int) -> bool:
        """Whether the next window has begun, though nobody has asked for anything of it yet."""
        return now_us >= self.start_us + self.length_us

    def reset_us(self, now_us: int) -> int:
        """Until the next window begins, in microseconds."""
        since_us = now_us - self.start_us
        return self.length_us - (since_us if since_us < self.length_us else since_us % self.length_us)

    def reset_seconds(self, now_us: int) -> float:
        """Until the next window begins."""
        return self.reset_us(now_us) / SECOND_US
