"""The secret that an account's webhooks are signed with."""

from headgate.v1.account_service_pb2 import CreateAccountRequest

from gateway_core.identity.accounts import Accounts
from gateway_core.identity.keyring import Keyring
from gateway_core.storage.account import account, hook_secret_place
from gateway_core.storage.store import Store
from tests.gateway_core.identity.conftest import ROOT


async def test_a_hook_secret_is_told_once_kept_sealed_and_rotated(store: Store, keyring: Keyring) -> None:
    accounts, operator = Accounts(store), await keyring.caller(f"Bearer {ROOT}")
    made = await accounts.create(operator, CreateAccountRequest(account={"name": "a"}))
    assert not made.account.HasField("hook_secret_create_time")
    first = await accounts.rotate_hook_secret(operator, made.account.id)
    second = await accounts.rotate_hook_secret(operator, made.account.id)
    assert first.secret != second.secret
    assert second.account.HasField("hook_secret_create_time")
    async with store.database.reading() as connection:
        row = await account(connection, made.account.id)
    assert row is not None
    assert row.hook_secret is not None
    assert second.secret.encode() not in row.hook_secret
    assert store.box.open(row.hook_secret, hook_secret_place(row.id)) == second.secret
