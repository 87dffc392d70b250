"""What is remembered of keys, what it costs, and how soon a change holds."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from headgate.v1 import key_pb2
from headgate.v1.account_pb2 import Account
from headgate.v1.account_service_pb2 import CreateAccountRequest, UpdateAccountRequest
from headgate.v1.key_service_pb2 import CreateKeyRequest, RotateKeyRequest
from structlog.testing import capture_logs

from gateway_core.call import Caller
from gateway_core.errors import Conflict, KeyExpired, Unauthenticated
from gateway_core.identity.accounts import Accounts
from gateway_core.identity.credential import new_secret
from gateway_core.identity.keyring import Keyring
from gateway_core.identity.keys import Keys
from gateway_core.identity.root import RootKeyInvalid, root_established
from gateway_core.storage import key as key_rows
from gateway_core.storage.store import Store
from tests.gateway_core.identity.conftest import ROOT, keyring_of, opened

PRIVATE = key_pb2.KEY_KIND_PRIVATE


def bearer(secret: str) -> str:
    return f"Bearer {secret}"


async def root(keyring: Keyring) -> Caller:
    return await keyring.caller(bearer(ROOT))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lookup parts that were looked up in the database."""
    looked_up: list[str] = []
    found = key_rows.found

    async def counted(connection: Any, lookup: str) -> Any:
        looked_up.append(lookup)
        return await found(connection, lookup)

    monkeypatch.setattr(key_rows, "found", counted)
    return looked_up


async def refused_within(keyring: Keyring, secret: str, seconds: float) -> None:
    """Waits until a key is refused; fails where that takes longer."""
    async with asyncio.timeout(seconds):
        while await works(keyring, secret):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def works(keyring: Keyring, secret: str) -> bool:
    try:
        return await keyring.caller(bearer(secret)) is not None
    except Unauthenticated:
        return False


async def test_a_known_key_costs_one_read_and_then_no_wait(keyring: Keyring, reads: list[str]) -> None:
    assert keyring.remembered(bearer(ROOT)) is None
    caller = await root(keyring)
    assert caller.is_root
    assert caller.kind == "private"
    assert keyring.remembered(bearer(ROOT)) is caller
    assert len(reads) == 1


async def test_a_wrong_key_costs_one_read_however_often_and_by_how_many_it_is_tried(
    keyring: Keyring, reads: list[str]
) -> None:
    wrong = new_secret("private")
    for _ in range(3):
        results = await asyncio.gather(*[works(keyring, wrong) for _ in range(20)])
        assert not any(results)
    assert len(reads) == 1


async def test_another_secret_with_the_lookup_part_of_a_key_is_refused_without_a_read(
    keyring: Keyring, reads: list[str]
) -> None:
    await root(keyring)
    alike = ROOT[:-1] + "X"
    assert keyring.remembered(bearer(alike)) is None
    assert not await works(keyring, alike)
    assert not await works(keyring, ROOT[:-1])
    assert not await works(keyring, "pk" + ROOT[2:])
    assert len(reads) == 1


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Basic !", "Basic c2s=", ROOT, "Digest " + ROOT, "Bearer sk-other"]
)
async def test_what_is_no_key_is_refused_unless_none_is_needed(store: Store, authorization: str | None) -> None:
    async with keyring_of(store) as strict, keyring_of(store, optional=True) as lenient:
        with pytest.raises(Unauthenticated):
            await strict.caller(authorization)
        caller = await lenient.caller(authorization)
        assert caller.is_root
        assert caller.key_id == ""
        with pytest.raises(Unauthenticated):
            await lenient.caller(bearer(new_secret("private")))


async def test_a_deleted_key_is_refused_at_once_here_and_within_a_second_elsewhere(
    store: Store, keyring: Keyring, database_url: str, tmp_path: Path
) -> None:
    keys = Keys(store.database)
    caller = await root(keyring)
    made = await keys.create(caller, CreateKeyRequest(label="a", kind=PRIVATE))
    async with opened(database_url, tmp_path) as other, keyring_of(other) as elsewhere:
        assert await works(keyring, made.secret)
        assert await works(elsewhere, made.secret)
        await keys.delete(caller, made.key.id)
        assert keyring.remembered(bearer(made.secret)) is None
        assert not await works(keyring, made.secret)
        await refused_within(elsewhere, made.secret, 5)  # a busy machine's second


async def test_a_key_that_was_unknown_is_known_once_it_is_made(store: Store, tmp_path: Path) -> None:
    later = "sk-hg-later0000000abcdefghijklmnopqrstuvwxyz0123456789"
    async with keyring_of(store) as keyring:
        assert not await works(keyring, later)
        await root_established(store.database, later)
        assert await works(keyring, later)
        assert not await works(keyring, ROOT)
        await root_established(store.database, ROOT)
        assert await works(keyring, ROOT)
        assert not await works(keyring, later)


async def test_the_old_secret_ends_at_the_first_use_of_the_new(store: Store, keyring: Keyring) -> None:
    keys, caller = Keys(store.database), await root(keyring)
    made = await keys.create(caller, CreateKeyRequest(label="a", kind=PRIVATE))
    first = await keys.rotate(caller, RotateKeyRequest(id=made.key.id))
    second = await keys.rotate(caller, RotateKeyRequest(id=made.key.id))
    assert second.key.id == made.key.id
    assert second.key.state == key_pb2.KEY_STATE_ROTATING
    assert second.key.replaced_masked_secret == made.key.masked_secret
    assert await works(keyring, made.secret)
    assert not await works(keyring, first.secret)
    assert (await keyring.caller(bearer(made.secret))).key_id == made.key.id
    assert await works(keyring, second.secret)
    assert keyring.remembered(bearer(made.secret)) is None
    assert not await works(keyring, made.secret)
    assert (await keys.get(caller, made.key.id)).state == key_pb2.KEY_STATE_ACTIVE


async def test_both_secrets_of_a_rotated_key_end_with_it(store: Store, keyring: Keyring) -> None:
    keys, caller = Keys(store.database), await root(keyring)
    made = await keys.create(caller, CreateKeyRequest(label="a", kind=PRIVATE))
    rotated = await keys.rotate(caller, RotateKeyRequest(id=made.key.id))
    await keys.delete(caller, made.key.id)
    assert not await works(keyring, made.secret)
    assert not await works(keyring, rotated.secret)


async def test_a_key_expires_while_it_is_remembered(
    store: Store, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = CreateKeyRequest(label="a", kind=PRIVATE)
    request.expires_in.FromSeconds(3600)
    made = await Keys(store.database).create(await root(keyring), request)
    assert await works(keyring, made.secret)
    later_ns = made.key.expire_time.ToNanoseconds()
    monkeypatch.setattr("gateway_core.identity.keyring.time_ns", lambda: later_ns)
    assert keyring.remembered(bearer(made.secret)) is None
    with pytest.raises(KeyExpired):
        await keyring.caller(bearer(made.secret))


async def test_the_use_of_a_key_is_written_together_with_others(store: Store, keyring: Keyring) -> None:
    keys, caller = Keys(store.database), await root(keyring)
    made = await keys.create(caller, CreateKeyRequest(label="a", kind=PRIVATE))
    assert not (await keys.get(caller, made.key.id)).HasField("last_used_time")
    assert await works(keyring, made.secret)
    await keyring.flush()
    used = (await keys.get(caller, made.key.id)).last_used_time
    assert used.seconds > made.key.create_time.seconds - 60
    assert used.seconds % 60 == used.nanos == 0


async def test_what_an_account_may_ask_holds_for_the_keys_and_accounts_below_it(store: Store, keyring: Keyring) -> None:
    accounts, keys, operator = Accounts(store), Keys(store.database), await root(keyring)
    account = Account(name="a", plan="small", default_tag="t", requests_per_minute=7, spend_cap_usd="25.50")
    made = await accounts.create(operator, CreateAccountRequest(account=account))
    assert made.account.spend_cap_usd == "25.5"
    caller = await keyring.caller(bearer(made.secret))
    assert (caller.plan, caller.default_tag, caller.requests_per_minute) == ("small", "t", 7)
    assert caller.allowed_models is None
    below = await accounts.create(caller, CreateAccountRequest(account=Account(name="b")))
    both = CreateKeyRequest(label="k", kind=PRIVATE, allowed_models=["m", "n"], project="p")
    key = await keys.create(caller, both)
    assert (await keyring.caller(bearer(key.secret))).allowed_models == frozenset({"m", "n"})
    narrowed = Account(id=made.account.id, allowed_models=["n", "o"])
    await accounts.update(operator, UpdateAccountRequest(account=narrowed))
    assert (await keyring.caller(bearer(key.secret))).allowed_models == frozenset({"n"})
    assert (await keyring.caller(bearer(key.secret))).project == "p"
    assert (await keyring.caller(bearer(below.secret))).allowed_models == frozenset({"n", "o"})
    await accounts.delete(operator, made.account.id)
    for secret in (made.secret, key.secret, below.secret):
        assert not await works(keyring, secret)


async def test_the_root_account_is_made_once_with_a_key_that_is_told_once(database_url: str, tmp_path: Path) -> None:
    async with opened(database_url, tmp_path) as store, opened(database_url, tmp_path) as other:
        told = await asyncio.gather(root_established(store.database, None), root_established(other.database, None))
        (secret,) = [one for one in told if one is not None]
        assert await root_established(store.database, None) is None
        async with keyring_of(store) as keyring:
            assert (await keyring.caller(bearer(secret))).is_root


async def test_the_last_key_with_which_the_operator_gets_in_is_not_deleted(store: Store, keyring: Keyring) -> None:
    keys, caller = Keys(store.database), await root(keyring)
    public = await keys.create(caller, CreateKeyRequest(label="a", kind=key_pb2.KEY_KIND_PUBLIC))
    expired = await keys.create(caller, CreateKeyRequest(label="b", kind=PRIVATE))
    async with store.database.transaction() as connection:
        await key_rows.change_key(connection, expired.key.id, {"expires_us": 1})
    with pytest.raises(Conflict) as caught:
        await keys.delete(caller, caller.key_id)
    assert caught.value.metadata == {"resource": "key", "id": caller.key_id}
    assert await works(keyring, ROOT)
    await keys.delete(caller, public.key.id)
    second = await keys.create(caller, CreateKeyRequest(label="c", kind=PRIVATE))
    # Of two that are deleted at the same time one is left.
    ends = await asyncio.gather(
        keys.delete(caller, caller.key_id), keys.delete(caller, second.key.id), return_exceptions=True
    )
    assert sorted(str(type(end).__name__) for end in ends) == ["Conflict", "NoneType"]


async def test_an_operator_without_a_key_is_warned_at_the_start(store: Store, keyring: Keyring) -> None:
    caller = await root(keyring)
    with capture_logs() as lines:
        await root_established(store.database, None)
    assert lines == []
    async with store.database.transaction() as connection:
        await key_rows.delete_key(connection, caller.key_id)
    with capture_logs() as lines:
        assert await root_established(store.database, None) is None
    assert [line["event"] for line in lines] == ["root_key_missing"]
    await root_established(store.database, ROOT)
    assert await works(keyring, ROOT)


@pytest.mark.parametrize("given", ["", "secret", "sk-hg-short", "pk-hg-" + "a" * 44, "sk-hg-" + "ä" * 44])
async def test_a_root_key_of_another_form_is_refused_and_not_told(store: Store, given: str) -> None:
    with pytest.raises(RootKeyInvalid) as caught:
        await root_established(store.database, given)
    assert not given or given not in str(caught.value)
