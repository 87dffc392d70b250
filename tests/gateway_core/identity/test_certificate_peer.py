"""What one worker tells another of a certificate is what it has proved itself, whatever is in the certificate."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pytest

from gateway_core.identity.certificate_peer import FORWARDED, CertificatePeers, Metadata

API, ROOT = "spiffe://example.org/api", "spiffe://example.org/root"
ENVOY = "spiffe://example.org/envoy"
PEERS = CertificatePeers(frozenset({ENVOY}), asks_clients=True)


@dataclass
class Call:
    """A call as gRPC tells of its connection."""

    come_from: str
    uris: tuple[str, ...] = ()
    subject: str = ""
    headers: tuple[tuple[str, str], ...] = field(default=())

    def peer(self) -> str:
        return self.come_from

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        return {"peer_uri": [uri.encode() for uri in self.uris], "x509_subject": [self.subject.encode()]}

    def invocation_metadata(self) -> Metadata:
        return self.headers


def at_another_worker(call: Call) -> str:
    return PEERS.name(Call("unix:", headers=PEERS.forwarded(call)))


@pytest.mark.parametrize(
    "uri",
    [
        f"spiffe://example.org/guest,URI={ROOT}",
        f"{ROOT},URI=spiffe://example.org/guest",
        f"spiffe://example.org/guest;URI={ROOT}",
        f"{ROOT};",
        f"{ROOT},",
        f"{ROOT} ",
        f'{ROOT};Subject="CN=root"',
        f'"{ROOT}"',
        f" {ROOT}",
        f"x,URI={ROOT}",
        f";URI={ROOT}",
    ],
)
def test_an_odd_uri_is_nobody_here_and_at_another_worker(uri: str) -> None:
    call = Call("ipv4:192.0.2.1:5", (uri,))
    assert PEERS.name(call) == at_another_worker(call) == ""
    through = Call("ipv4:192.0.2.2:5", (ENVOY,), headers=((FORWARDED, f'Hash=1;Subject="";URI={uri}'),))
    assert PEERS.name(through) == at_another_worker(through) == ""


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (Call("ipv4:192.0.2.1:5", (API,)), API),
        (Call("ipv4:192.0.2.1:5", (API,), headers=((FORWARDED, f"URI={ROOT}"),)), API),
        (Call("ipv4:192.0.2.1:5", subject=r"CN=a\,URI=b\;\"c\\"), 'CN=a,URI=b;"c\\'),
        (Call("ipv4:192.0.2.2:5", (ENVOY,), headers=((FORWARDED, f"URI={API}"),)), API),
        (Call("ipv4:192.0.2.2:5", (ENVOY,), headers=((FORWARDED, f"URI={API}"), (FORWARDED, f"URI={ROOT}"))), ""),
        (Call("ipv4:192.0.2.2:5", (ENVOY,)), ""),
    ],
)
def test_a_name_is_the_same_at_another_worker(call: Call, name: str) -> None:
    assert PEERS.name(call) == at_another_worker(call) == name
