"""Who is at the other end of a connection, in gRPC's words."""

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

# Names of gRPC's (grpc/grpc_security_constants.h).
KIND = "transport_security_type"
COMMON_NAME = "x509_common_name"
ALTERNATIVE_NAME = "x509_subject_alternative_name"
CERTIFICATE = "x509_pem_cert"


@dataclass(frozen=True, slots=True)
class Caller:
    """The other end."""

    name: str
    """"ipv4:127.0.0.1:5555", "ipv6:%5B::1%5D:5555", "unix:"."""
    authentication: Mapping[str, Iterable[bytes]]


def caller(transport: asyncio.BaseTransport) -> Caller:
    """The other end of a transport."""
    found = transport.get_extra_info("ssl_object")
    return Caller(name_of(transport.get_extra_info("peername")), {} if found is None else authentication(found))


def name_of(address: Any) -> str:
    """An address of a socket."""
    if not isinstance(address, tuple):
        return "unix:"
    host, port = address[:2]
    return f"ipv6:{quote(f'[{host}]', safe=':')}:{port}" if ":" in host else f"ipv4:{host}:{port}"


def authentication(handshake: ssl.SSLObject) -> dict[str, list[bytes]]:
    """What the client's certificate says, where it was asked for one."""
    found: dict[str, list[bytes]] = {KIND: [b"ssl"]}
    der = handshake.getpeercert(binary_form=True)
    shown: Any = handshake.getpeercert()
    if not der or not shown:
        return found
    found[CERTIFICATE] = [ssl.DER_cert_to_PEM_cert(der).encode()]
    names = [value for part in shown.get("subject", ()) for key, value in part if key == "commonName"]
    found[COMMON_NAME] = [name.encode() for name in names]
    found[ALTERNATIVE_NAME] = [str(value).encode() for _, value in shown.get("subjectAltName", ())]
    return {key: values for key, values in found.items() if values}
