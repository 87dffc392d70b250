"""SIGTERM ends a run as Ctrl-C does, so that everything that was started is ended."""

import signal
from types import FrameType


def interrupted_by_sigterm() -> None:
    """From now on SIGTERM raises KeyboardInterrupt."""
    signal.signal(signal.SIGTERM, _leave)


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
