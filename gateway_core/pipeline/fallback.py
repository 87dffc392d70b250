"""Tries the targets of a call, one after the other, until one opens."""

import asyncio
from typing import Any

from gateway_core.call import Call, Events, Next
from gateway_core.errors import DeadlineExceeded, GatewayError
from gateway_core.telemetry import Telemetry


class Stage:
    """Sets the target of each attempt; what is tried again is the opening only."""

    def __init__(self, telemetry: Telemetry) -> None:
        """Takes where attempts are told."""
        self._telemetry = telemetry

    async def __call__(self, call: Call[Any], next: Next[Any]) -> Events:
        """Opens at the first target that accepts; raises the last failure where none does."""
        attempts = self._telemetry.attempts
        left = len(call.targets)
        for target in call.targets:
            left -= 1
            if call.deadline is not None and asyncio.get_running_loop().time() >= call.deadline:
                raise DeadlineExceeded("The deadline passed before a provider was asked.")
            call.target = target
            call.attempt_count += 1
            call.upstream_request_id = ""
            del call.rewrites[:]
            attempt = attempts.begin(call)
            try:
                events = await next(call)
            except GatewayError as error:
                attempts.failed(attempt, error)
                if left == 0 or not error.retryable:
                    raise
            except BaseException as error:
                attempts.failed(attempt, error)
                raise
            else:
                attempts.opened(attempt)
                return events
        raise AssertionError("the stage `route` sets at least one target")
