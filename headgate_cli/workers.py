"""How many processes `headgate serve` is: one that serves, or workers and one that watches over them."""

import os
import sys
from typing import Literal

from gateway_core.config import Config
from gateway_core.config_file import ConfigError, load_part
from headgate_cli.commands import work
from headgate_cli.errors import WrongUse
from headgate_cli.locations import config_file, read_config
from headgate_cli.serve_options import ServeOptions

KEYS = frozenset({"workers", "listen", "log", "detach"})
"""What a supervisor reads of the configuration; each worker reads all of it."""


def run(options: ServeOptions) -> int:
    """Serves; returns the exit status."""
    config = own_part(options)
    count = worker_count(options.workers, config.workers)
    if count > 1 and sys.platform != "linux":
        raise WrongUse(
            f"workers: {count} needs Linux, which spreads connections over processes: leave --workers and `workers` out"
        )
    code: int = work("serve").run(options) if count == 1 else work("supervisor").run(options, config, count)
    return code


def own_part(options: ServeOptions) -> Config:
    """What the configuration tells of processes; raises CommandFailed."""
    path = config_file(options.config, options.data)
    if path is None:
        return Config()
    try:
        return load_part(path, os.environ, KEYS)
    except ConfigError:
        return read_config(path)  # to tell of all that is wrong, and not of these keys only


def worker_count(asked: str | None, configured: int | Literal["auto"]) -> int:
    """How many workers there are to be; raises WrongUse."""
    if asked is None:
        return processors() if configured == "auto" else configured
    if asked == "auto":
        return processors()
    if not (asked.isascii() and asked.isdigit() and 1 <= int(asked) <= 1024):
        raise WrongUse(f'--workers must be a number from 1 to 1024, or "auto", and is {asked!r}')
    return int(asked)


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
