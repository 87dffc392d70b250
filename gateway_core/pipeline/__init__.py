"""The stages that a call goes through, one file each.

    async def __call__(self, call: Call, next: Next) -> Events

Awaiting opens, iterating reads: `events = await next(call)` returns once the provider has accepted. Until then nothing
has been sent to the caller, so a stage may repeat it; afterwards nothing is repeated.

A stage that has nothing to do behind the next one need not wait for it: it is a plain function, whose last word is
`return next(call)`. Whatever is resumed later is resumed by way of each coroutine that waits.
"""

from collections.abc import Awaitable, Sequence
from typing import Any, Protocol

from gateway_core.call import Call, Events, Next

# The order of the stages, outermost first, and why each stands where it does.
ORDER = (
    "trace",  # outermost: sees how every call ends, whatever ended it
    "authenticate",  # inside trace: refused callers are told too; before all that depends on who calls
    "gateway",  # after authenticate: gateways are an account's; before validate: what is checked is what is sent
    "validate",  # inside trace: refused requests are told too; before route: a wrong request asks for no model
    "route",  # from a model's name to targets; all that follows knows where the call can go
    "admit",  # after route: price and limits depend on the model; before meter: refused calls cost no durable write
    "meter",  # outside fallback: one record a request, its attempts beneath
    "failover",  # inside meter, which sees one answer; outside fallback, which finds the target that goes on with it
    "fallback",  # innermost: what it repeats is one attempt at one target
)


class Stage(Protocol):
    """One concern of a call."""

    def __call__(self, call: Call[Any], next: Next[Any]) -> Awaitable[Events]:
        """Opens the call, by way of the stages below."""
        ...


def compose(stages: Sequence[tuple[str, Stage]], innermost: Next[Any]) -> Next[Any]:
    """One callable of all the stages, the first outermost; refuses an order that is not that of ORDER."""
    names = [name for name, _ in stages]
    if names != sorted(names, key=ORDER.index):
        raise ValueError(f"stages {names} are not in the order {ORDER}")
    chain = innermost
    for _, stage in reversed(stages):
        chain = before(stage, chain)
    return chain


def before(stage: Stage, next: Next[Any]) -> Next[Any]:
    """What calls a stage, which goes on with the next."""
    run = stage.__call__  # the bound method: calling the object would cost twice as much

    def ask(call: Call[Any]) -> Awaitable[Events]:
        return run(call, next)

    return ask
