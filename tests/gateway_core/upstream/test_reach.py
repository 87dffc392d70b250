"""Tests of which addresses may be dialled where a caller chose the URL."""

from ipaddress import ip_network
from socket import AF_INET

import pytest

from gateway_core import errors
from gateway_core.upstream import dial
from gateway_core.upstream.origin import Origin
from gateway_core.upstream.reach import Reach
from tests.gateway_core.upstream.conftest import MakeClient
from tests.support.upstream import Upstream, json_answer

PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.100.100.200",
    "168.63.129.16",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "ff0e::1",
    "64:ff9b:1::a9fe:a9fe",
    "64:ff9b:1::808:808",
    "fec0::1",
    "::ffff:0:7f00:1",
    "::127.0.0.1",
    "5f00::1",
    "3fff::1",
    "2001:db8::1",
    "2001::7f00:1",
    "100::1",
    "4000::1",
    "no address",
    "",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_out_of_reach(address: str) -> None:
    assert not Reach().has(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "2606:4700::1111", "2a00:1450::1", "2002:808:808::", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_a_public_address_is_in_reach(address: str) -> None:
    assert Reach().has(address)


def test_a_network_that_is_named_is_in_reach_and_no_other() -> None:
    reach = Reach([ip_network("10.1.0.0/16")])
    assert reach.has("10.1.2.3")
    assert not reach.has("10.2.0.1")
    assert not reach.has("127.0.0.1")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "a.localhost.", "127.0.0.1", "::1"])
def test_this_machine_is_refused_by_its_name_alone(host: str) -> None:
    assert Reach().refuses(host)
    assert not Reach([ip_network("127.0.0.0/8"), ip_network("::1")]).refuses(host)


async def test_an_address_out_of_reach_is_not_dialled(upstream: Upstream, make_client: MakeClient) -> None:
    client = make_client(upstream.base_url, private_networks=())
    with pytest.raises(errors.ProviderUnreachable, match="may not be asked"):
        await client.open("GET", "/models")
    assert upstream.connection_count == 0


async def test_a_network_that_is_named_is_dialled(upstream: Upstream, make_client: MakeClient) -> None:
    upstream.script(json_answer({}))
    client = make_client(upstream.base_url, private_networks=("127.0.0.0/8",))
    (await client.open("GET", "/models")).abort()


async def test_a_name_is_judged_by_the_address_that_is_dialled(
    upstream: Upstream, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def looked_up(origin: Origin) -> list[dial.Address]:
        return [(AF_INET, ("127.0.0.1", upstream.port))]

    monkeypatch.setattr(dial, "looked_up", looked_up)
    client = make_client(f"http://rebound.test:{upstream.port}/v1", private_networks=("10.0.0.0/8",))
    with pytest.raises(errors.ProviderUnreachable, match="may not be asked"):
        await client.open("GET", "/models")
    assert upstream.connection_count == 0


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1"])
async def test_an_address_in_disguise_is_not_dialled(upstream: Upstream, make_client: MakeClient, host: str) -> None:
    client = make_client(f"http://{host}:{upstream.port}/v1", private_networks=())
    with pytest.raises(errors.ProviderUnreachable):
        await client.open("GET", "/models")
    assert upstream.connection_count == 0


async def test_no_proxy_is_asked_for_an_address_that_must_be_judged(
    upstream: Upstream, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", upstream.base_url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    client = make_client("http://10.0.0.1/v1", private_networks=())
    with pytest.raises(errors.ProviderUnreachable, match="may not be asked"):
        await client.open("GET", "/models")
    assert upstream.connection_count == 0
