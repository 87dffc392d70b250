"""Gives back what a process leased of a limit and did not use, and forgets windows that are over."""

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway_core.storage.tables.coordination import leases, rate_windows


async def return_units(connection: AsyncConnection, scope: str, window_start_us: int, units: int) -> None:
    """Returns units of a window to all; the holder's leases go on."""
    window = (rate_windows.c.scope == scope) & (rate_windows.c.window_start_us == window_start_us)
    await connection.execute(update(rate_windows).where(window).values(granted=rate_windows.c.granted - units))


async def give_back(connection: AsyncConnection, scope: str, window_start_us: int, holder: str, unused: int) -> None:
    """Returns units of a window to all, and ends the holder's leases of it: what it used stays used."""
    await return_units(connection, scope, window_start_us, unused)
    held = (leases.c.scope == scope) & (leases.c.window_start_us == window_start_us) & (leases.c.holder == holder)
    await connection.execute(delete(leases).where(held))


async def granted(connection: AsyncConnection, scope: str, window_start_us: int) -> int:
    """Units that all processes together have of a window."""
    window = (rate_windows.c.scope == scope) & (rate_windows.c.window_start_us == window_start_us)
    return await connection.scalar(select(rate_windows.c.granted).where(window)) or 0


async def forget_windows(connection: AsyncConnection, before_us: int) -> None:
    """Deletes windows that were over before a time, and their leases."""
    await connection.execute(delete(leases).where(leases.c.expires_us < before_us))
    await connection.execute(delete(rate_windows).where(rate_windows.c.expires_us < before_us))
