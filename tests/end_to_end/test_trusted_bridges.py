"""A bridge in a process of its own tells the core its callers' addresses, which the core believes where it is told to."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from grpc import aio
from headgate.v1 import key_pb2
from headgate.v1.key_service_pb2 import CreateKeyRequest
from headgate.v1.key_service_pb2_grpc import KeyServiceStub

from gateway_core.config import Config
from gateway_core.services.edge import Bridges
from gateway_core.storage.store import Store
from tests.support.gateway import running
from tests.support.kept import ROOT, SECRET_KEY, bearer

ONCE = {"per_address": [{"requests": 1, "seconds": 86400}]}
REQUEST = {"model": "01890000-0000-7000-8000-000000000000", "messages": [{"role": "user", "content": "Hi"}]}


async def statuses(directory: Path, networks: Sequence[str]) -> list[int]:
    """What callers of two addresses get from a bridge apart, where each address has one request."""
    config = Config.model_validate({"public_keys": ONCE, "limits": {"trusted_bridges": networks}})
    store = Store.at(None, directory, {"HEADGATE_SECRET_KEY": SECRET_KEY})
    async with (
        running(config, "apart", store=store, root_key=ROOT) as gateway,
        aio.insecure_channel(gateway.grpc_address) as channel,
        httpx.AsyncClient(base_url=gateway.http_url, trust_env=False) as http,
    ):
        request = CreateKeyRequest(label="web", kind=key_pb2.KEY_KIND_PUBLIC)
        secret = (await KeyServiceStub(channel).CreateKey(request, metadata=bearer(ROOT))).secret
        found = []
        for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1"):
            headers = {"authorization": f"Bearer {secret}", "x-forwarded-for": address}
            found.append((await http.post("/v1/chat/completions", json=REQUEST, headers=headers)).status_code)
        return found


async def test_callers_of_a_trusted_bridge_are_told_apart(tmp_path: Path) -> None:
    assert await statuses(tmp_path, ["192.0.2.0/24", "127.0.0.0/8"]) == [404, 404, 429]


@pytest.mark.parametrize("networks", [[], ["192.0.2.0/24"]], ids=["none", "another"])
async def test_the_word_of_any_other_bridge_counts_nothing(tmp_path: Path, networks: list[str]) -> None:
    assert await statuses(tmp_path, networks) == [404, 429, 429]


class Peer:
    """The context of a call from somewhere."""

    def __init__(self, peer: str) -> None:
        self._peer = peer

    def peer(self) -> str:
        return self._peer


@pytest.mark.parametrize(
    ("peer", "told", "address"),
    [
        ("inprocess:", "192.0.2.9", "192.0.2.9"),
        ("inprocess:", None, ""),
        ("ipv4:10.0.0.7:5555", "192.0.2.9", "192.0.2.9"),
        ("ipv4:10.0.0.7:5555", None, "10.0.0.7"),
        ("ipv4:10.0.0.7:5555", "x" * 65, "10.0.0.7"),
        ("ipv4:10.0.1.7:5555", "192.0.2.9", "10.0.1.7"),
        ("ipv6:%5Bfd00::7%5D:5555", "192.0.2.9", "192.0.2.9"),
        ("ipv6:%5Bfd01::7%5D:5555", "192.0.2.9", "fd01::7"),
        ("ipv6:%5B::ffff:10.0.0.7%5D:5555", "192.0.2.9", "192.0.2.9"),
        ("ipv6:%5Bfe80::1%25eth0%5D:5555", "192.0.2.9", "fe80::1%eth0"),
        ("unix:", "192.0.2.9", ""),
    ],
)
def test_who_is_believed_depends_on_the_network_of_the_bridge(peer: str, told: str | None, address: str) -> None:
    config = Config.model_validate({"limits": {"trusted_bridges": ["10.0.0.0/24", "fd00::/16"]}})
    bridges = Bridges(config.limits.trusted_bridges)
    context: Any = Peer(peer)
    assert bridges.caller_address(context, {} if told is None else {"x-headgate-client": told}) == address
