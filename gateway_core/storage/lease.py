"""Leases: shares of a limit that processes take from the store, so that a call need not ask it."""

from dataclasses import dataclass

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway_core.storage.identifier import new_id
from gateway_core.storage.statements import insert
from gateway_core.storage.tables.coordination import leases, rate_windows


@dataclass(frozen=True, slots=True)
class LeaseRequest:
    """What a process wants of a limit."""

    scope: str
    """What is limited."""
    window_start_us: int
    limit: int
    """Most units that all processes together get in the window."""
    units: int
    """How many are wanted."""
    holder: str
    """The process that takes them."""
    expires_us: int
    """When window and lease are over, and their rows may be deleted."""
    held: int = 0
    """What the process has of the window already, for a store that may have forgotten it."""


async def taken(connection: AsyncConnection, request: LeaseRequest) -> int:
    """How many units the process gets, 0 to those that it wants; they are its own when the transaction is committed.

    Never do the units granted in a window exceed the limit, however many processes ask at once.
    """
    row = {"scope": request.scope, "window_start_us": request.window_start_us}
    new = insert(connection, rate_windows).values(**row, granted=0, expires_us=request.expires_us)
    await connection.execute(new.on_conflict_do_nothing())
    window = (rate_windows.c.scope == request.scope) & (rate_windows.c.window_start_us == request.window_start_us)
    granted = await connection.scalar(select(rate_windows.c.granted).where(window).with_for_update())
    units = max(0, min(request.units, request.limit - (granted or 0)))
    if units:
        await connection.execute(update(rate_windows).where(window).values(granted=rate_windows.c.granted + units))
        lease = {**row, "id": new_id(), "holder": request.holder, "units": units, "expires_us": request.expires_us}
        await connection.execute(leases.insert().values(lease))
    return units


async def claimed(connection: AsyncConnection, request: LeaseRequest, units: int) -> None:
    """Counts units that the process has used, or may use, though nobody gave them; negative: fewer.

    All together may exceed the limit then: it is what happened.
    """
    if not units:
        return
    row = {"scope": request.scope, "window_start_us": request.window_start_us}
    new = insert(connection, rate_windows).values(**row, granted=units, expires_us=request.expires_us)
    more = {"granted": rate_windows.c.granted + units}
    await connection.execute(new.on_conflict_do_update(index_elements=["scope", "window_start_us"], set_=more))
