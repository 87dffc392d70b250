"""What a caller may manage: its own account, those that it made, and no more models than its own key may ask."""

from collections.abc import Sequence
from typing import Any

from gateway_core.call import Caller
from gateway_core.errors import NotFound
from gateway_core.identity.fields import check_within
from gateway_core.storage import account as rows
from gateway_core.storage import key as key_rows
from gateway_core.storage.account import AccountRow


async def own_or_below(connection: Any, caller: Caller, account_id: str) -> AccountRow:
    """The caller's own account ("me" or empty too), or one that it made; raises NotFound for all others."""
    wanted = caller.account_id if account_id in ("", "me") else account_id
    row = await rows.account(connection, wanted)
    if row is None or (row.id != caller.account_id and row.parent_id != caller.account_id):
        raise NotFound("There is no such account.", resource="account", id=account_id[:200])
    return row


async def check_restriction(connection: Any, caller: Caller, values: Sequence[str] | None) -> None:
    """Raises ModelNotAllowed where a list allows more than the caller's own key may ask."""
    own = await key_rows.key(connection, caller.key_id) if caller.key_id else None
    check_within(values, None if own is None else own.allowed_models)
