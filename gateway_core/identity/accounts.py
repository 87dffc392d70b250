"""Accounts: made, changed and deleted by the account above them."""

import secrets
from collections.abc import Collection
from typing import Any

from headgate.v1.account_pb2 import Account
from headgate.v1.account_service_pb2 import (
    CreateAccountRequest,
    CreateAccountResponse,
    ListAccountsRequest,
    ListAccountsResponse,
    RotateHookSecretResponse,
    UpdateAccountRequest,
)

from gateway_core.call import Caller
from gateway_core.config import Config
from gateway_core.errors import AlreadyExists, Conflict, InvalidRequest, PermissionDenied
from gateway_core.identity.credential import new_secret
from gateway_core.identity.fields import (
    changed_paths,
    check_within,
    models,
    names_and_values,
    page,
    pico_usd,
    text,
    usd,
)
from gateway_core.identity.keys import data, key_message
from gateway_core.identity.ownership import check_restriction, own_or_below
from gateway_core.identity.root import key_values
from gateway_core.storage import account as rows
from gateway_core.storage import key as key_rows
from gateway_core.storage.account import AccountRow
from gateway_core.storage.errors import Conflict as StorageConflict
from gateway_core.storage.identifier import new_id, now_us
from gateway_core.storage.store import Store
from gateway_core.timestamp import timestamp
from gateway_core.webhooks.crossing import rearm
from gateway_core.webhooks.event import KEY_CREATED, types
from gateway_core.webhooks.webhooks import Webhooks

CHANGEABLE = frozenset(
    [
        "name",
        "external_ref",
        "plan",
        "spend_cap_usd",
        "requests_per_minute",
        "default_tag",
        "allowed_models",
        "metadata",
        "webhook_url",
        "webhook_events",
        "low_balance_usd",
    ]
)
OWN_CHANGEABLE = frozenset(["webhook_url", "webhook_events", "low_balance_usd"])
"""What an account may change of itself."""
USD = {"spend_cap_usd": "spend_cap_pico_usd", "low_balance_usd": "low_balance_pico_usd"}
FIRST_LABEL = "first"


class Accounts:
    """The accounts of a store."""

    def __init__(self, store: Store, webhooks: Webhooks | None = None) -> None:
        """Takes where they are kept, and what tells them what happens to them."""
        self._database = store.database
        self._box = store.box
        self._webhooks = webhooks or Webhooks(store, Config())

    async def create(self, caller: Caller, request: CreateAccountRequest) -> CreateAccountResponse:
        """Makes a sub-account and its first key; raises InvalidRequest, ModelNotAllowed, AlreadyExists."""
        asked = request.account
        values = {name: self._column(asked, name) for name in sorted(CHANGEABLE)}
        check_within(values["allowed_models"], caller.allowed_models)
        secret = new_secret("private")
        account_id = new_id()
        async with self._database.transaction() as connection:
            row = {**columns(values), "id": account_id, "parent_id": caller.account_id}
            if not await rows.add_account(connection, row):
                raise taken(asked.external_ref)
            first = {**key_values(secret), "account_id": account_id, "label": FIRST_LABEL}
            key_id = await key_rows.add_key(connection, first)
            made, key = await rows.account(connection, account_id), await key_rows.key(connection, key_id)
            assert made is not None
            assert key is not None
            await self._database.changes.publish(connection, rows.TOPIC, account_id)
            await self._webhooks.outbox.announce(connection, account_id, KEY_CREATED, data(key))
        return CreateAccountResponse(account=account_message(made), key=key_message(key, None), secret=secret)

    async def get(self, caller: Caller, account_id: str) -> Account:
        """A sub-account, or the caller's own; raises NotFound."""
        async with self._database.reading() as connection:
            return account_message(await own_or_below(connection, caller, account_id))

    async def list(self, caller: Caller, request: ListAccountsRequest) -> ListAccountsResponse:
        """The sub-accounts, the newest first; raises InvalidRequest."""
        size = page(request.page_size, request.page_token)
        async with self._database.reading() as connection:
            found = await rows.child_accounts(
                connection,
                caller.account_id,
                external_ref=request.external_ref,
                before=request.page_token,
                limit=size + 1,
            )
        token = found[size - 1].id if len(found) > size else ""
        return ListAccountsResponse(accounts=[account_message(row) for row in found[:size]], next_page_token=token)

    async def update(self, caller: Caller, request: UpdateAccountRequest) -> Account:
        """Changes what the mask names; raises InvalidRequest, PermissionDenied, AlreadyExists."""
        asked = request.account
        mask = request.update_mask if request.HasField("update_mask") else None
        values = {name: self._column(asked, name) for name in changed_paths(asked, mask, CHANGEABLE, "an account")}
        try:
            async with self._database.transaction() as connection:
                row = await own_or_below(connection, caller, asked.id)
                check_changer(caller, row, values.keys())
                if "allowed_models" in values and row.id != caller.account_id:
                    check_within(values["allowed_models"], caller.allowed_models)
                elif "allowed_models" in values:
                    await check_restriction(connection, caller, values["allowed_models"])
                await rows.change_account(connection, row.id, columns(values))
                if values.keys() & USD.keys():
                    recapped = values.get("spend_cap_usd", row.spend_cap_pico_usd) != row.spend_cap_pico_usd
                    await rearm(connection, row.id, recapped=recapped)
                changed = await rows.account(connection, row.id)
                await self._database.changes.publish(connection, rows.TOPIC, row.id)
        except StorageConflict:
            raise taken(asked.external_ref) from None
        assert changed is not None
        return account_message(changed)

    async def delete(self, caller: Caller, account_id: str) -> None:
        """Deletes a sub-account and all below it; raises NotFound, Conflict, PermissionDenied."""
        async with self._database.transaction() as connection:
            row = await own_or_below(connection, caller, account_id)
            if row.root:
                raise Conflict("The operator's account cannot be deleted.", resource="account", id=row.id)
            if row.id == caller.account_id:
                raise PermissionDenied("Only the account above may delete an account.")
            for gone in await rows.delete_account(connection, row.id):
                await self._database.changes.publish(connection, rows.TOPIC, gone)

    async def rotate_hook_secret(self, caller: Caller, account_id: str) -> RotateHookSecretResponse:
        """Makes a new secret that webhooks are signed with; raises NotFound."""
        secret = "whsec_" + secrets.token_urlsafe(32)
        async with self._database.transaction() as connection:
            row = await own_or_below(connection, caller, account_id)
            sealed = self._box.seal(secret, rows.hook_secret_place(row.id))
            await rows.change_account(connection, row.id, {"hook_secret": sealed, "hook_secret_us": now_us()})
            changed = await rows.account(connection, row.id)
            await self._database.changes.publish(connection, rows.TOPIC, row.id)
        assert changed is not None
        return RotateHookSecretResponse(secret=secret, account=account_message(changed))

    def _column(self, asked: Account, name: str) -> Any:
        if name == "webhook_url":
            return self._webhooks.url(asked.webhook_url, f"account.{name}")
        return column(asked, name)


def check_changer(caller: Caller, row: AccountRow, names: Collection[str]) -> None:
    """Raises PermissionDenied where the caller may not change these fields of an account that it may see."""
    if row.id != caller.account_id or caller.is_root or (names and OWN_CHANGEABLE.issuperset(names)):
        return
    own = ", ".join(sorted(OWN_CHANGEABLE))
    raise PermissionDenied(f"Only the account above may change an account; of itself it may change {own}.")


def column(asked: Account, name: str) -> Any:
    """The value of a field as it is kept; raises InvalidRequest."""
    path = f"account.{name}"
    if name == "spend_cap_usd":
        return pico_usd(asked.spend_cap_usd, path) if asked.HasField("spend_cap_usd") else None
    if name == "low_balance_usd":
        return threshold(asked.low_balance_usd, path) if asked.HasField("low_balance_usd") else None
    if name == "webhook_events":
        return types(asked.webhook_events, path)
    if name == "requests_per_minute":
        if not asked.HasField("requests_per_minute"):
            return None
        if not 1 <= asked.requests_per_minute <= 2**31 - 1:
            raise InvalidRequest(f"{path} must be from 1 to {2**31 - 1}.", param=path)
        return asked.requests_per_minute
    if name == "allowed_models":
        return models(asked.allowed_models, path)
    if name == "metadata":
        return names_and_values(asked.metadata, path)
    longest = {"external_ref": 128}.get(name, 64)
    return text(getattr(asked, name), path, longest, required=name == "name")


def threshold(value: str, path: str) -> int:
    """An amount above 0, in units of 10^-12 US dollars; raises InvalidRequest."""
    pico = pico_usd(value, path)
    if not pico:
        raise InvalidRequest(f"{path} must be above 0; leave it out to be told of nothing.", param=path)
    return pico


def columns(values: dict[str, Any]) -> dict[str, Any]:
    """The values of fields by the names of their columns; an endpoint that is given anew is no longer stopped."""
    again = {"webhook_stopped_us": None} if "webhook_url" in values else {}
    return {USD.get(name, name): value for name, value in values.items()} | again


def taken(external_ref: str) -> AlreadyExists:
    """The error for an external_ref that another account has."""
    return AlreadyExists("There is an account of that external_ref.", resource="account", id=external_ref[:200])


def account_message(row: AccountRow) -> Account:
    """An account as it is told."""
    told = Account(
        id=row.id,
        name=row.name,
        external_ref=row.external_ref or "",
        plan=row.plan or "",
        default_tag=row.default_tag or "",
        allowed_models=row.allowed_models or (),
        metadata=row.metadata,
        is_root=row.root,
        webhook_url=row.webhook_url or "",
        webhook_events=row.webhook_events or (),
        parent_account_id=row.parent_id or "",
        create_time=timestamp(row.created_us),
        update_time=timestamp(row.updated_us),
    )
    if row.spend_cap_pico_usd is not None:
        told.spend_cap_usd = usd(row.spend_cap_pico_usd)
    if row.low_balance_pico_usd is not None:
        told.low_balance_usd = usd(row.low_balance_pico_usd)
    if row.requests_per_minute is not None:
        told.requests_per_minute = row.requests_per_minute
    if row.hook_secret_us is not None:
        told.hook_secret_create_time.CopyFrom(timestamp(row.hook_secret_us))
    if row.webhook_stopped_us is not None:
        told.webhook_stop_time.CopyFrom(timestamp(row.webhook_stopped_us))
    return told
