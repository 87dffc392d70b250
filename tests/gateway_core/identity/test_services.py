"""What accounts and keys may hold, how they are changed, and how they are listed."""

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from headgate.v1 import key_pb2
from headgate.v1.account_pb2 import Account
from headgate.v1.account_service_pb2 import CreateAccountRequest, ListAccountsRequest, UpdateAccountRequest
from headgate.v1.key_pb2 import Key
from headgate.v1.key_service_pb2 import CreateKeyRequest, ListKeysRequest, RotateKeyRequest, UpdateKeyRequest

from gateway_core.call import Caller
from gateway_core.errors import AlreadyExists, Conflict, InvalidRequest, NotFound, PermissionDenied
from gateway_core.identity.accounts import Accounts
from gateway_core.identity.fields import pico_usd, usd
from gateway_core.identity.keyring import Keyring
from gateway_core.identity.keys import Keys
from gateway_core.storage.store import Store
from tests.gateway_core.identity.conftest import ROOT

PRIVATE, PUBLIC = key_pb2.KEY_KIND_PRIVATE, key_pb2.KEY_KIND_PUBLIC


@pytest.fixture
async def operator(keyring: Keyring) -> Caller:
    return await keyring.caller(f"Bearer {ROOT}")


@pytest.fixture
def accounts(store: Store) -> Accounts:
    return Accounts(store)


@pytest.fixture
def keys(store: Store) -> Keys:
    return Keys(store.database)


WRONG_ACCOUNTS: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "account.name"),
    ({"name": "a" * 65}, "account.name"),
    ({"name": "a\x00b"}, "account.name"),
    ({"external_ref": "a" * 129}, "account.external_ref"),
    ({"spend_cap_usd": "-1"}, "account.spend_cap_usd"),
    ({"spend_cap_usd": "1e3"}, "account.spend_cap_usd"),
    ({"spend_cap_usd": "NaN"}, "account.spend_cap_usd"),
    ({"spend_cap_usd": ""}, "account.spend_cap_usd"),
    ({"spend_cap_usd": "0.0000000000001"}, "account.spend_cap_usd"),
    ({"spend_cap_usd": "9999999999"}, "account.spend_cap_usd"),
    ({"requests_per_minute": 0}, "account.requests_per_minute"),
    ({"requests_per_minute": 2**31}, "account.requests_per_minute"),
    ({"default_tag": "a" * 65}, "account.default_tag"),
    ({"allowed_models": [""]}, "account.allowed_models[0]"),
    ({"metadata": {"a": "b" * 513}}, "account.metadata.a"),
    ({"metadata": {str(number): "" for number in range(17)}}, "account.metadata"),
]


async def test_a_field_that_is_wrong_is_named(accounts: Accounts, operator: Caller) -> None:
    for fields, path in WRONG_ACCOUNTS:
        with pytest.raises(InvalidRequest) as caught:
            await accounts.create(operator, CreateAccountRequest(account=Account(**{"name": "a", **fields})))
        assert caught.value.metadata["param"] == path


async def test_a_key_needs_a_kind_a_label_and_a_time_that_is_not_zero(keys: Keys, operator: Caller) -> None:
    for request, path in (
        (CreateKeyRequest(label="a"), "kind"),
        (CreateKeyRequest(kind=PRIVATE), "label"),
        (CreateKeyRequest(kind=PRIVATE, label="a", expires_in=Duration()), "expires_in"),
        (CreateKeyRequest(kind=PRIVATE, label="a", description="a" * 513), "description"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            await keys.create(operator, request)
        assert caught.value.metadata["param"] == path


async def test_a_mask_says_what_is_changed_and_what_is_cleared(accounts: Accounts, operator: Caller) -> None:
    account = Account(name="a", external_ref="r", default_tag="t", requests_per_minute=5)
    made = (await accounts.create(operator, CreateAccountRequest(account=account))).account
    asked = Account(id=made.id, name="b", default_tag="u")
    mask = FieldMask(paths=["name", "requests_per_minute"])
    changed = await accounts.update(operator, UpdateAccountRequest(account=asked, update_mask=mask))
    assert (changed.name, changed.default_tag, changed.HasField("requests_per_minute")) == ("b", "t", False)
    without_mask = await accounts.update(operator, UpdateAccountRequest(account=Account(id=made.id, default_tag="v")))
    assert (without_mask.name, without_mask.default_tag, without_mask.external_ref) == ("b", "v", "r")
    for path in ("id", "is_root", "nothing", "name.x"):
        with pytest.raises(InvalidRequest) as caught:
            await accounts.update(operator, UpdateAccountRequest(account=asked, update_mask=FieldMask(paths=[path])))
        assert path in caught.value.message


async def test_two_accounts_cannot_have_one_external_ref(accounts: Accounts, operator: Caller) -> None:
    for name in ("r", "s"):
        await accounts.create(operator, CreateAccountRequest(account=Account(name=name, external_ref=name)))
    with pytest.raises(AlreadyExists):
        await accounts.create(operator, CreateAccountRequest(account=Account(name="b", external_ref="r")))
    (other,) = (await accounts.list(operator, ListAccountsRequest(external_ref="s"))).accounts
    with pytest.raises(AlreadyExists):
        await accounts.update(operator, UpdateAccountRequest(account=Account(id=other.id, external_ref="r")))
    await accounts.delete(operator, other.id)
    again = CreateAccountRequest(account=Account(name="again", external_ref="s"))
    assert (await accounts.create(operator, again)).account.id != other.id


async def test_an_account_changes_those_below_it_and_not_itself(
    accounts: Accounts, keyring: Keyring, operator: Caller
) -> None:
    made = await accounts.create(operator, CreateAccountRequest(account=Account(name="a")))
    caller = await keyring.caller(f"Bearer {made.secret}")
    with pytest.raises(PermissionDenied):
        await accounts.update(caller, UpdateAccountRequest(account=Account(id=made.account.id, name="b")))
    with pytest.raises(PermissionDenied):
        await accounts.delete(caller, made.account.id)
    with pytest.raises(NotFound):
        await accounts.get(caller, operator.account_id)
    with pytest.raises(Conflict):
        await accounts.delete(operator, operator.account_id)
    root = await accounts.update(operator, UpdateAccountRequest(account=Account(id=operator.account_id, name="ops")))
    assert (root.name, root.is_root) == ("ops", True)


async def test_lists_come_in_pages_the_newest_first(accounts: Accounts, keys: Keys, operator: Caller) -> None:
    for number in range(5):
        await accounts.create(operator, CreateAccountRequest(account=Account(name=str(number))))
        request = CreateKeyRequest(label=str(number), kind=PUBLIC if number % 2 else PRIVATE, project="p")
        await keys.create(operator, request)
    names, labels, token = [], [], ""
    for _ in range(3):
        page = await accounts.list(operator, ListAccountsRequest(page_size=2, page_token=token))
        names += [account.name for account in page.accounts]
        token = page.next_page_token
    assert (names, token) == (["4", "3", "2", "1", "0"], "")
    for _ in range(3):
        listed = await keys.list(operator, ListKeysRequest(page_size=2, page_token=token, project="p"))
        labels += [key.label for key in listed.keys]
        token = listed.next_page_token
    assert (labels, token) == (["4", "3", "2", "1", "0"], "")
    public = await keys.list(operator, ListKeysRequest(kind=PUBLIC))
    assert [key.label for key in public.keys] == ["3", "1"]
    for wrong in (ListKeysRequest(page_size=-1), ListKeysRequest(page_size=1001), ListKeysRequest(page_token="x")):
        with pytest.raises(InvalidRequest):
            await keys.list(operator, wrong)


async def test_a_key_is_changed_and_rotated_with_a_new_time(keys: Keys, operator: Caller) -> None:
    made = await keys.create(operator, CreateKeyRequest(label="a", kind=PUBLIC, description="d", project="p"))
    soon = Timestamp(seconds=4_000_000_000)
    asked = Key(id=made.key.id, label="b", expire_time=soon, allowed_models=["m"])
    changed = await keys.update(operator, UpdateKeyRequest(key=asked))
    assert (changed.label, changed.description, changed.expire_time, changed.kind) == ("b", "d", soon, PUBLIC)
    cleared = UpdateKeyRequest(key=Key(id=made.key.id), update_mask=FieldMask(paths=["expire_time", "allowed_models"]))
    changed = await keys.update(operator, cleared)
    assert not changed.HasField("expire_time")
    assert list(changed.allowed_models) == []
    rotated = await keys.rotate(operator, RotateKeyRequest(id=made.key.id, expires_in=Duration(seconds=60)))
    assert rotated.secret.startswith("pk-hg-")
    assert rotated.key.HasField("expire_time")
    for_ever = await keys.rotate(operator, RotateKeyRequest(id=made.key.id, expires_in=Duration(seconds=-1)))
    assert not for_ever.key.HasField("expire_time")


@pytest.mark.parametrize(
    ("text", "pico", "told"),
    [
        ("0", 0, "0"),
        ("25.50", 25_500_000_000_000, "25.5"),
        ("0.000000000001", 1, "0.000000000001"),
        ("100", 10**14, "100"),
    ],
)
def test_money_is_counted_in_whole_units(text: str, pico: int, told: str) -> None:
    assert pico_usd(text, "x") == pico
    assert usd(pico) == told


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("-0.01", "x must not be negative."),
        ("9223373", "x must be at most 9223372 US dollars."),
        ("1e3", 'x must be US dollars as a decimal number, such as "25.50".'),
    ],
)
def test_wrong_money_is_told_what_is_wrong_with_it(text: str, sentence: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        pico_usd(text, "x")
    assert refused.value.message == sentence
