"""By which certificate a call came: that of its connection or, through a proxy that is believed, that of its caller."""

from collections.abc import Iterable, Mapping, Set
from functools import lru_cache
from typing import Protocol

from gateway_core.config import Config
from gateway_core.identity.certificate_name import certificate_name, forwarded_element, forwarded_name

FORWARDED = "x-forwarded-client-cert"
NAMES_AT_MOST = 4096
Metadata = Iterable[tuple[str, str | bytes]]


class Connection(Protocol):
    """What a servicer knows of the connection of a call (grpc.aio.ServicerContext)."""

    def peer(self) -> str:
        """Where it comes from."""
        ...

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """What TLS has proved."""
        ...

    def invocation_metadata(self) -> Metadata | None:
        """What the caller sent along."""
        ...


class CertificatePeers:
    """Tells the name of the certificate that a call came by.

    The bridge in this process, and other workers of this server by their Unix socket, are believed: they tell whom they
    themselves have checked. So are proxies, which never call for themselves.
    """

    def __init__(self, proxies: Set[str], *, asks_clients: bool) -> None:
        """Takes the names of the proxies, and whether callers by gRPC must show certificates."""
        self._proxies = proxies
        self._asks_clients = asks_clients

    def name(self, context: Connection) -> str:
        """The SPIFFE ID, or "CN=name". Empty: there is no certificate, or it has no name."""
        if context.peer().startswith(("inprocess:", "unix:")):
            return told_by(context)
        if not self._asks_clients:
            return ""
        # gRPC asks for certificates only where it checks them: what is here was checked.
        proved = context.auth_context()
        name = proved_name(tuple(proved.get("peer_uri", ())), tuple(proved.get("x509_subject", ())))
        return told_by(context) if name in self._proxies else name

    def forwarded(self, context: Connection) -> tuple[tuple[str, str], ...]:
        """The metadata that tell another worker the same."""
        name = self.name(context)
        return ((FORWARDED, forwarded_element(name)),) if name else ()


@lru_cache(NAMES_AT_MOST)
def proved_name(uris: tuple[bytes, ...], subject: tuple[bytes, ...]) -> str:
    """The name of a certificate, by its URIs and its subject."""
    texts = [uri.decode("utf-8", "replace") for uri in uris]
    return certificate_name(texts, b"".join(subject).decode("utf-8", "replace"))


def certificate_peers(config: Config) -> CertificatePeers | None:
    """What tells the certificates of callers. None: nobody is known by one."""
    known, listener = config.client_certificates, config.tls.grpc
    if not known.accounts:
        return None
    return CertificatePeers(
        known.proxies, asks_clients=listener is not None and listener.client_authorities is not None
    )


def told_by(context: Connection) -> str:
    """The name that the one header of the call tells. Empty: none, or there are several."""
    told = [value for key, value in context.invocation_metadata() or () if key == FORWARDED]
    return forwarded_name(told[0]) if len(told) == 1 and isinstance(told[0], str) else ""
