"""Where the core listens: the credentials of its socket."""

from typing import Any

import grpc
from grpc import aio

from gateway_core.tls_files import Material, TlsFiles


def add_port(server: aio.Server, address: str, tls: TlsFiles | None = None) -> int:
    """The port that the server got at an address; raises OSError where it is taken. Takes what it shows, for TLS."""
    try:
        port = server.add_insecure_port(address) if tls is None else server.add_secure_port(address, credentials(tls))
    except RuntimeError:
        port = 0
    if port == 0:
        raise OSError(f"cannot listen on {address} for gRPC")
    return port


def credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    """Credentials that each new connection has as the files say then.

    gRPC itself speaks TLS 1.2 and later only, and agrees with clients on h2 (ALPN).
    """
    shown = tls.current()

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal shown
        found = tls.current()
        if found is shown:
            return None
        shown = found
        return configuration(found)

    asks = shown.authorities is not None
    fetch: Any = renewed  # whose None is not in the type stubs
    return grpc.dynamic_ssl_server_credentials(configuration(shown), fetch, require_client_authentication=asks)


def configuration(shown: Material) -> grpc.ServerCertificateConfiguration:
    """The same in gRPC's words."""
    return grpc.ssl_server_certificate_configuration([(shown.private_key, shown.certificate)], shown.authorities)
