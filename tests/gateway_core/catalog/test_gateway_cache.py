"""Tests of gateways in memory: what comes late or twice, and what another account has."""

from typing import Any

from headgate.v1.gateway_pb2 import Gateway

from gateway_core.catalog.gateway import Version, stored
from gateway_core.catalog.gateway_cache import GatewayCache
from gateway_core.storage.gateway import GatewayRow


def version(gateway_id: str = "1", number: int = 1, **values: Any) -> Version:
    gateway = Gateway(name="g", model="small")
    slug, account_id = values.get("slug", f"g:{gateway_id}"), values.get("account_id", "a")
    return Version.of(GatewayRow(gateway_id, account_id, "g", slug, number, 1, 1, stored(gateway), None))


def found(cache: GatewayCache, name: str, account_id: str = "a") -> int | None:
    known = cache.find(account_id, name)
    return None if known is None else known.use.version


def test_an_older_version_does_not_replace_a_newer_one() -> None:
    cache = GatewayCache()
    cache.put(version(number=2))
    cache.put(version(number=1))
    assert found(cache, "1") == 2


def test_what_is_deleted_does_not_come_back() -> None:
    cache = GatewayCache()
    cache.put(version())
    cache.drop("1")
    cache.put(version(number=2))
    assert found(cache, "1") is None
    assert found(cache, "g:1") is None
    assert cache.of_account("a") == []
    cache.drop("1")


def test_two_accounts_may_have_one_slug() -> None:
    cache = GatewayCache()
    cache.put(version("1", 1, slug="g:beef"))
    cache.put(version("2", 7, slug="g:beef", account_id="b"))
    assert (found(cache, "g:beef"), found(cache, "g:beef", "b")) == (1, 7)
    cache.drop("1")
    assert (found(cache, "g:beef"), found(cache, "g:beef", "b")) == (None, 7)


def test_a_slug_that_another_gateway_has_taken_over_stays_with_it() -> None:
    cache = GatewayCache()
    cache.put(version("1", 1, slug="g:beef"))
    cache.put(version("2", 5, slug="g:beef"))
    cache.put(version("1", 2, slug="h:beef"))
    assert (found(cache, "g:beef"), found(cache, "h:beef")) == (5, 2)


def test_an_account_has_its_own_gateways_the_newest_first() -> None:
    cache = GatewayCache()
    for gateway_id, account_id in (("1", "a"), ("3", "a"), ("2", "b")):
        cache.put(version(gateway_id, account_id=account_id))
    assert [each.use.id for each in cache.of_account("a")] == ["3", "1"]
