"""How many files the process may open: every open call takes two, and most systems begin with 1,024."""

import contextlib
import sys

if sys.platform != "win32":
    import resource


def allow_open_files() -> None:
    """Raises the limit as far as the system lets a process raise it by itself (getrlimit(2), RLIMIT_NOFILE)."""
    if sys.platform != "win32":
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        # Some systems say that there is no limit, and refuse to be taken at their word.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
