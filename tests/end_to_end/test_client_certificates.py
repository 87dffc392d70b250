"""Who callers are that bring a certificate in the place of a key, their own or through a proxy."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from grpc import StatusCode, aio
from headgate.v1.account_pb2 import Account
from headgate.v1.account_service_pb2 import CreateAccountRequest, DeleteAccountRequest
from headgate.v1.account_service_pb2_grpc import AccountServiceStub

from gateway_core.config import Config
from gateway_core.storage.store import Store
from tests.support.authority import DAY, Authority, Issued
from tests.support.certified import API, ENVOY, LOST, SECONDS, Certified, asked, certified, secure
from tests.support.gateway import running
from tests.support.kept import ROOT, SECRET_KEY, bearer

WAYS = ["unary", "stream", "account"]
UNKNOWN = "sk-hg-unknown00000abcdefghijklmnopqrstuvwxyz0123456789"
OTHER = "spiffe://example.org/other"
XFCC = "x-forwarded-client-cert"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Certified]:
    async with certified(tmp_path) as found:
        yield found


@pytest.fixture
async def lenient(tmp_path: Path) -> AsyncIterator[Certified]:
    async with certified(tmp_path, authentication="optional") as found:
        yield found


def issued(world: Certified, name: str) -> Issued:
    """The certificate that a name stands for in the tables of this file."""
    if name.startswith("spiffe:"):
        return world.authority.issue("client", uris=tuple(name.split()), common_name="batch")
    return world.authority.issue("client", common_name=tuple(name.split()))


def metadata(world: Certified, key: str | None, forwarded: str | None) -> tuple[tuple[str, str], ...]:
    named = {"globex": world.secret, "unknown": UNKNOWN, "root": ROOT, "rubbish": "rubbish"}
    given = () if key is None else bearer(named[key]) if key else (("authorization", ""),)
    return given if forwarded is None else (*given, (XFCC, forwarded))


async def answered(
    world: Certified, way: str, shown: str, key: str | None, forwarded: str | None
) -> tuple[str, str, str]:
    """The account's name, the id of the key, and the certificate that the ledger tells."""
    async with world.channel(issued(world, shown)) as channel:
        found = await asked(channel, way, metadata(world, key, forwarded))
    names = {identity: name for name, identity in world.accounts.items()}
    if way == "account":
        return names[found], "", ""
    record = await world.record(found)
    return names[record.account_id], record.key_id, record.metadata.get("headgate.certificate", "")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("shown", "key", "forwarded", "account", "certificate"),
    [
        pytest.param(API, None, None, "acme", API, id="a SPIFFE ID"),
        pytest.param("batch", None, None, "acme", "CN=batch", id="a common name"),
        pytest.param("operator", None, None, "root", "CN=operator", id="the operator's"),
        pytest.param(API, "", None, "acme", API, id="an empty key"),
        pytest.param(API, "globex", None, "globex", "", id="a key goes before"),
        pytest.param(OTHER, "globex", None, "globex", "", id="a key, and a certificate of nobody's"),
        pytest.param(ENVOY, None, f"Hash=1;URI={API}", "acme", API, id="through a proxy"),
        pytest.param("edge", None, 'Hash=1;Subject="CN=batch"', "acme", "CN=batch", id="a proxy by its common name"),
        pytest.param(ENVOY, "globex", f"Hash=1;URI={API}", "globex", "", id="a key through a proxy"),
        pytest.param(API, None, "URI=spiffe://example.org/envoy;Subject=CN=operator", "acme", API, id="forged"),
    ],
)
async def test_who_calls(
    world: Certified, way: str, shown: str, key: str | None, forwarded: str | None, account: str, certificate: str
) -> None:
    name, key_id, told = await answered(world, way, shown, key, forwarded)
    assert name == account
    if way != "account":
        assert told == certificate
        assert bool(key_id) == (key == "globex")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("shown", "key", "forwarded", "words"),
    [
        pytest.param(OTHER, None, None, f"the certificate {OTHER!r} stands for no account", id="of nobody's"),
        pytest.param("search", None, None, "the certificate 'CN=search' stands for no account", id="a name of none"),
        pytest.param(f"{API} {OTHER}", None, None, "A key is needed", id="two SPIFFE IDs"),
        pytest.param("batch operator", None, None, "A key is needed", id="two common names"),
        pytest.param(API, "unknown", None, "unknown or has been deleted", id="a wrong key"),
        pytest.param(API, "rubbish", None, "unknown or has been deleted", id="no key's form"),
        pytest.param(ENVOY, None, None, "A key is needed", id="the proxy itself"),
        pytest.param(ENVOY, None, "Hash=1", "A key is needed", id="a proxy's caller without a name"),
        pytest.param(ENVOY, None, f"URI={API},", "A key is needed", id="a header that cannot be read"),
        pytest.param(f"{OTHER},URI={API}", None, None, "A key is needed", id="an element in its URI"),
        pytest.param(f"{API};DNS=x", None, None, "A key is needed", id="a pair in its URI"),
        pytest.param(ENVOY, None, f"Hash=1;URI={OTHER},Hash=2;URI={API}", "A key is needed", id="several elements"),
        pytest.param(ENVOY, None, f"Hash=1;URI={API},Hash=2;URI={OTHER}", "A key is needed", id="and the other first"),
        pytest.param(ENVOY, None, f"Hash=1;URI={OTHER};URI={API}", "A key is needed", id="several URIs"),
        pytest.param(ENVOY, None, f"Hash=1;URI={API};DNS=x", "A key is needed", id="more behind the URI"),
        pytest.param(ENVOY, None, f"Hash=1;URI={ENVOY}", "no account", id="a proxy through a proxy"),
        pytest.param(ENVOY, "unknown", f"Hash=1;URI={API}", "unknown or has been deleted", id="a wrong key by proxy"),
        pytest.param(OTHER, None, f"Hash=1;URI={API}", f"{OTHER!r} stands for no account", id="forged by a stranger"),
        pytest.param(LOST, None, None, "stands for the account 'lost'", id="an account that is not there"),
    ],
)
async def test_who_is_refused(
    world: Certified, way: str, shown: str, key: str | None, forwarded: str | None, words: str
) -> None:
    async with world.channel(issued(world, shown)) as channel:
        with pytest.raises(aio.AioRpcError) as refused:
            await asked(channel, way, metadata(world, key, forwarded))
    assert refused.value.code() is StatusCode.UNAUTHENTICATED
    assert words in (refused.value.details() or "")
    assert UNKNOWN not in (refused.value.details() or "")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["none", "foreign", "expired", "not yet valid", "its own authority's only by name"])
async def test_who_shows_no_certificate_that_holds_is_not_let_in(
    world: Certified, way: str, kind: str, tmp_path: Path
) -> None:
    valid = {"expired": (-2 * DAY, -DAY), "not yet valid": (DAY, 2 * DAY)}.get(kind, (-DAY, DAY))
    name = "authority" if kind.startswith("its own") else "foreign"
    signer = (
        Authority(tmp_path / "foreign", name) if kind in ("foreign",) or kind.startswith("its") else world.authority
    )
    shown = None if kind == "none" else signer.issue("client", uris=(API,), valid=valid)
    async with secure(world.gateway.grpc_address, world.authority, shown) as channel:
        with pytest.raises(aio.AioRpcError) as refused:
            await asked(channel, way, bearer(ROOT))
    assert refused.value.code() is StatusCode.UNAVAILABLE


@pytest.mark.parametrize("way", WAYS)
async def test_where_no_key_is_needed_a_certificate_still_tells_who_calls(lenient: Certified, way: str) -> None:
    for shown, key, account in ((API, None, "acme"), (API, "rubbish", "acme"), (OTHER, None, "root")):
        name, key_id, _ = await answered(lenient, way, shown, key, None)
        assert (name, key_id) == (account, "")


@pytest.mark.parametrize("way", WAYS)
async def test_in_the_clear_no_header_makes_anybody(tmp_path: Path, way: str) -> None:
    authority = Authority(tmp_path / "http")
    server = authority.issue("server")
    row = {"certificate": server.certificate, "private_key": server.private_key, "client_authorities": authority.file}
    config = {"tls": {"http": row}, "client_certificates": {"accounts": {API: "root"}, "proxies": [ENVOY]}}
    store = Store.at(None, tmp_path, {"HEADGATE_SECRET_KEY": SECRET_KEY})
    async with (
        running(Config.model_validate(config), store=store, root_key=ROOT) as gateway,
        aio.insecure_channel(gateway.grpc_address) as channel,
    ):
        for forwarded in (f"Hash=1;URI={API}", f"By={ENVOY};Hash=1;URI={API}"):
            with pytest.raises(aio.AioRpcError) as refused:
                await asked(channel, way, ((XFCC, forwarded),))
            assert refused.value.code() is StatusCode.UNAUTHENTICATED


async def test_an_account_that_is_made_later_is_known_then_and_one_that_is_deleted_no_more(world: Certified) -> None:
    async with world.channel(issued(world, LOST)) as channel, world.channel(world.operator) as operator:
        accounts = AccountServiceStub(operator)
        with pytest.raises(aio.AioRpcError, match="stands for the account 'lost'"):
            await asked(channel, "unary", ())
        request = CreateAccountRequest(account=Account(name="lost", external_ref="lost"))
        made = await accounts.CreateAccount(request, metadata=bearer(ROOT), timeout=SECONDS)
        assert (await world.record(await asked(channel, "unary", ()))).account_id == made.account.id
        assert await asked(channel, "account", ()) == made.account.id
        await accounts.DeleteAccount(DeleteAccountRequest(id=made.account.id), metadata=bearer(ROOT), timeout=SECONDS)
        async with asyncio.timeout(SECONDS):
            while True:
                if await is_lost(channel):
                    break
                await asyncio.sleep(0.05)


async def is_lost(channel: aio.Channel) -> bool:
    """Whether the account of a certificate is not there."""
    try:
        await asked(channel, "unary", ())
    except aio.AioRpcError as error:
        return "stands for the account 'lost'" in (error.details() or "")
    return False


async def test_nobody_writes_a_certificate_into_the_ledger_by_the_metadata_of_a_call(world: Certified) -> None:
    async with world.channel(world.operator) as channel:
        found = await asked(channel, "unary", bearer(world.secret), labels={"headgate.certificate": API, "team": "a"})
    assert dict((await world.record(found)).metadata) == {"team": "a"}
    async with world.channel(issued(world, "batch")) as channel:
        found = await asked(channel, "unary", (), labels={"headgate.certificate": API, "team": "a"})
    assert dict((await world.record(found)).metadata) == {"headgate.certificate": "CN=batch", "team": "a"}
