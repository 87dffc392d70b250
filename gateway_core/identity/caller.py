"""The caller that an account is."""

from collections.abc import Sequence
from typing import Literal, cast

from gateway_core.call import Caller
from gateway_core.storage.account import AccountRow
from gateway_core.storage.key import KeyRow


def caller_of(account: AccountRow, key: KeyRow | None = None, allowed_models: Sequence[Sequence[str]] = ()) -> Caller:
    """The caller that an account is, by one of its keys or by none, who may ask what all lists allow."""
    allowed = [frozenset(names) for names in allowed_models]
    return Caller(
        account_id=account.id,
        key_id="" if key is None else key.id,
        kind="none" if key is None else cast(Literal["private", "public"], key.kind),
        is_root=account.root,
        plan=account.plan or "",
        default_tag=account.default_tag or "",
        project=(key and key.project) or "",
        allowed_models=frozenset.intersection(*allowed) if allowed else None,
        requests_per_minute=account.requests_per_minute,
    )
