"""Who is at the other end of a connection, in gRPC's words."""

import asyncio
import re
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

# Names of gRPC's (grpc/grpc_security_constants.h).
KIND = "transport_security_type"
COMMON_NAME = "x509_common_name"
SUBJECT = "x509_subject"
ALTERNATIVE_NAME = "x509_subject_alternative_name"
URI = "peer_uri"
CERTIFICATE = "x509_pem_cert"

# RFC 2253, 2.3; the others are written as OpenSSL calls them.
SHORT_NAMES = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
NO_LETTER_OF_A_TYPE = re.compile("[^A-Za-z0-9.-]")
# RFC 2253, 2.4: what is special, and what a reader might trim.
SPECIAL = re.compile(r'[,+"\\<>;#= \0-\x1f]')


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
    """An address of a socket. Empty: it has none any more."""
    if not isinstance(address, tuple):
        return "unix:" if isinstance(address, str | bytes) else ""
    host, port = address[:2]
    return f"ipv6:{quote(f'[{host}]', safe=':')}:{port}" if ":" in host else f"ipv4:{host}:{port}"


def authentication(handshake: ssl.SSLObject) -> dict[str, list[bytes]]:
    """What the client's certificate says, where it was asked for one; of one that cannot be read nothing."""
    found: dict[str, list[bytes]] = {KIND: [b"ssl"]}
    der = handshake.getpeercert(binary_form=True)
    try:
        shown: Any = handshake.getpeercert()
    except (ValueError, ssl.SSLError):
        return found
    if not der or not shown:
        return found
    subject = [pair for part in shown.get("subject", ()) for pair in part]
    alternatives = [(kind, str(value).encode()) for kind, value in shown.get("subjectAltName", ())]
    found[CERTIFICATE] = [ssl.DER_cert_to_PEM_cert(der).encode()]
    found[SUBJECT] = [distinguished_name(subject).encode()]
    found[COMMON_NAME] = [value.encode() for kind, value in subject if kind == "commonName"]
    found[ALTERNATIVE_NAME] = [value for _, value in alternatives]
    found[URI] = [value for kind, value in alternatives if kind == "URI"]
    return {key: values for key, values in found.items() if values}


def distinguished_name(subject: Sequence[tuple[str, str]]) -> str:
    """A subject as RFC 2253 writes it: the last part first."""
    return ",".join(f"{attribute_type(kind)}={SPECIAL.sub(escaped, value)}" for kind, value in reversed(subject))


def attribute_type(kind: str) -> str:
    """The name of a part."""
    return SHORT_NAMES.get(kind) or NO_LETTER_OF_A_TYPE.sub("", kind)


def escaped(match: re.Match[str]) -> str:
    """A character as RFC 2253 writes its byte."""
    return f"\\{ord(match[0]):02X}"
