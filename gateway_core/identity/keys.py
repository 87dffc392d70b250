"""Keys: made, changed, rotated and deleted by their account and the account above it."""

from typing import Any

from headgate.v1 import key_pb2
from headgate.v1.key_pb2 import Key
from headgate.v1.key_service_pb2 import (
    CreateKeyRequest,
    CreateKeyResponse,
    ListKeysRequest,
    ListKeysResponse,
    RotateKeyRequest,
    RotateKeyResponse,
    UpdateKeyRequest,
)

from gateway_core.call import Caller
from gateway_core.errors import Conflict, InvalidRequest, NotFound
from gateway_core.identity.credential import Kind, new_secret
from gateway_core.identity.fields import changed_paths, expiry_us, models, page, text
from gateway_core.identity.ownership import check_restriction, own_or_below
from gateway_core.identity.root import key_values
from gateway_core.storage import key as rows
from gateway_core.storage.account import root_account
from gateway_core.storage.database import Database
from gateway_core.storage.identifier import now_us
from gateway_core.storage.key import KeyRow, Only
from gateway_core.timestamp import time_us, timestamp
from gateway_core.webhooks.event import KEY_CREATED, KEY_DELETED, KEY_ROTATED, key_data
from gateway_core.webhooks.outbox import Outbox

CHANGEABLE = frozenset(["label", "description", "project", "allowed_models", "expire_time"])
KINDS: dict[int, Kind] = {key_pb2.KEY_KIND_PRIVATE: "private", key_pb2.KEY_KIND_PUBLIC: "public"}


class Keys:
    """The keys of a database."""

    def __init__(self, database: Database, outbox: Outbox | None = None) -> None:
        """Takes where they are kept, and what tells their accounts of them."""
        self._database = database
        self._outbox = outbox or Outbox(database)

    async def create(self, caller: Caller, request: CreateKeyRequest) -> CreateKeyResponse:
        """Makes a key; raises InvalidRequest, NotFound, ModelNotAllowed."""
        kind = KINDS.get(request.kind)
        if kind is None:
            raise InvalidRequest("kind must be private or public.", param="kind")
        values = {name: column(request, name, name) for name in ("label", "description", "project", "allowed_models")}
        if request.HasField("expires_in"):
            values["expires_us"] = expiry_us(request.expires_in, "expires_in")
        secret = new_secret(kind)
        async with self._database.transaction() as connection:
            account = await own_or_below(connection, caller, request.account_id)
            await check_restriction(connection, caller, values["allowed_models"])
            row = {**values, **key_values(secret), "account_id": account.id}
            made = await rows.key(connection, await rows.add_key(connection, row))
            # Whoever tried it before it was there may have it for unknown.
            assert made is not None
            await self._database.changes.publish(connection, rows.TOPIC, made.id)
            await self._outbox.announce(connection, account.id, KEY_CREATED, data(made))
        return CreateKeyResponse(key=key_message(made, None), secret=secret)

    async def get(self, caller: Caller, key_id: str) -> Key:
        """A key; raises NotFound."""
        async with self._database.reading() as connection:
            return await told(connection, await managed(connection, caller, key_id))

    async def list(self, caller: Caller, request: ListKeysRequest) -> ListKeysResponse:
        """The keys of one account, the newest first; raises InvalidRequest, NotFound."""
        size = page(request.page_size, request.page_token)
        only = Only(KINDS.get(request.kind, ""), request.project, request.page_token, size + 1)
        async with self._database.reading() as connection:
            account = await own_or_below(connection, caller, request.account_id)
            found = await rows.keys_of(connection, account.id, only)
        token = found[size - 1][0].id if len(found) > size else ""
        return ListKeysResponse(keys=[key_message(row, old) for row, old in found[:size]], next_page_token=token)

    async def update(self, caller: Caller, request: UpdateKeyRequest) -> Key:
        """Changes what the mask names; raises InvalidRequest, NotFound, ModelNotAllowed."""
        asked = request.key
        mask = request.update_mask if request.HasField("update_mask") else None
        values: dict[str, Any] = {}
        for name in changed_paths(asked, mask, CHANGEABLE, "a key"):
            if name == "expire_time":
                values["expires_us"] = moment_us(asked)
            else:
                values[name] = column(asked, name, f"key.{name}")
        async with self._database.transaction() as connection:
            row = await managed(connection, caller, asked.id, lock=True)
            if "allowed_models" in values:
                await check_restriction(connection, caller, values["allowed_models"])
            await rows.change_key(connection, row.id, values)
            await self._database.changes.publish(connection, rows.TOPIC, row.id)
            return await told(connection, await managed(connection, caller, asked.id))

    async def rotate(self, caller: Caller, request: RotateKeyRequest) -> RotateKeyResponse:
        """Gives a key a new secret, at whose first use the old one ends; raises InvalidRequest, NotFound.

        Raises ModelNotAllowed where the caller would get hold of a key that may ask more than its own.
        """
        values: dict[str, Any] = {}
        if request.HasField("expires_in"):
            values["expires_us"] = expiry_us(request.expires_in, "expires_in")
        async with self._database.transaction() as connection:
            row = await managed(connection, caller, request.id, lock=True)
            await check_restriction(connection, caller, row.allowed_models)
            secret = new_secret("public" if row.kind == "public" else "private")
            await rows.rotate_key(connection, row, {**values, **key_values(secret)})
            await self._database.changes.publish(connection, rows.TOPIC, row.id)
            rotated = await managed(connection, caller, request.id)
            await self._outbox.announce(connection, row.account_id, KEY_ROTATED, data(rotated))
            key = await told(connection, rotated)
        return RotateKeyResponse(key=key, secret=secret)

    async def delete(self, caller: Caller, key_id: str) -> None:
        """Deletes a key; raises NotFound, Conflict for the last one with which the operator gets in."""
        async with self._database.transaction() as connection:
            row = await managed(connection, caller, key_id)
            root = await root_account(connection)
            if root is not None and row.account_id == root.id:
                await check_others(connection, row)
            await rows.delete_key(connection, row.id)
            await self._database.changes.publish(connection, rows.TOPIC, row.id)
            await self._outbox.announce(connection, row.account_id, KEY_DELETED, data(row))


async def check_others(connection: Any, row: KeyRow) -> None:
    """Raises Conflict where a key of the operator's is the last one that works: nobody could make another."""
    if await rows.working_private_keys(connection, row.account_id) == [row.id]:
        message = "This is the operator's last private key: make another one first."
        raise Conflict(message, resource="key", id=row.id)


async def managed(connection: Any, caller: Caller, key_id: str, *, lock: bool = False) -> KeyRow:
    """A key of the caller's account or of one that it made; raises NotFound for all others."""
    row = await rows.key(connection, key_id, lock=lock)
    missing = NotFound("There is no such key.", resource="key", id=key_id[:200])
    if row is None:
        raise missing
    try:
        await own_or_below(connection, caller, row.account_id)
    except NotFound:
        raise missing from None
    return row


async def told(connection: Any, row: KeyRow) -> Key:
    """A key as it is told."""
    old = await rows.replaced(connection, row.id)
    return key_message(row, None if old is None else old.masked)


def data(row: KeyRow) -> dict[str, Any]:
    """What a webhook tells of a key."""
    return key_data(row.id, row.kind, row.label, row.project, row.expires_us)


def column(asked: CreateKeyRequest | Key, name: str, path: str) -> Any:
    """The value of a field as it is kept; raises InvalidRequest."""
    if name == "allowed_models":
        return models(asked.allowed_models, path)
    return text(getattr(asked, name), path, 512 if name == "description" else 64, required=name == "label")


def moment_us(asked: Key) -> int | None:
    """When a key is to end; None: never. Raises InvalidRequest."""
    if not asked.HasField("expire_time"):
        return None
    at_us = time_us(asked.expire_time, "key.expire_time")
    if at_us < 0:
        raise InvalidRequest("key.expire_time must be after 1970.", param="key.expire_time")
    return at_us


def key_message(row: KeyRow, replaced_masked: str | None) -> Key:
    """A key as it is told; takes the masked secret that works until the new one is used."""
    state = key_pb2.KEY_STATE_ACTIVE if replaced_masked is None else key_pb2.KEY_STATE_ROTATING
    if row.expires_us is not None and row.expires_us <= now_us():
        state = key_pb2.KEY_STATE_EXPIRED
    message = Key(
        id=row.id,
        account_id=row.account_id,
        kind=key_pb2.KEY_KIND_PUBLIC if row.kind == "public" else key_pb2.KEY_KIND_PRIVATE,
        label=row.label,
        description=row.description or "",
        project=row.project or "",
        allowed_models=row.allowed_models or (),
        masked_secret=row.masked,
        state=state,
        replaced_masked_secret=replaced_masked,
        create_time=timestamp(row.created_us),
        update_time=timestamp(row.updated_us),
    )
    if row.expires_us is not None:
        message.expire_time.CopyFrom(timestamp(row.expires_us))
    if row.last_used_us is not None:
        message.last_used_time.CopyFrom(timestamp(row.last_used_us // 60_000_000 * 60_000_000))
    return message
