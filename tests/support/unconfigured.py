"""Logging as it is where nobody set it up."""

import logging

import structlog

from gateway_core.telemetry.log import FOREIGN_LOGGERS, Foreign


def unconfigure_log() -> None:
    """Takes back what `configure_log` did to the process: its level would drop lines that later tests look for."""
    structlog.reset_defaults()
    root = logging.getLogger()
    root.handlers[:] = [present for present in root.handlers if not isinstance(present, Foreign)]
    for name in FOREIGN_LOGGERS:
        logging.getLogger(name).setLevel(logging.NOTSET)
