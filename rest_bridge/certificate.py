"""The certificate that a client showed: the name it gives, and how the core is told of it.

The core is told as Envoy tells: x-forwarded-client-cert
(https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers#x-forwarded-client-cert).
"""

import re
from collections.abc import Mapping, Set
from typing import Any

CERTIFICATE = "headgate.certificate"
"""Where a scope has the name."""
FORWARDED = "x-forwarded-client-cert"
FORWARDED_AT_MOST = 16384
SPIFFE = "spiffe://"
SPIFFE_ID = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/[a-zA-Z0-9._-]+)*")
"""None may have other letters (the SPIFFE ID standard, 2); "," and ";" would end what the core is told."""


def certificate_name(shown: Mapping[str, Any]) -> str:
    """The SPIFFE ID of a certificate; of one that has none "CN=" and its common name. Empty: neither, or several.

    Takes the certificate as ssl.SSLSocket.getpeercert tells of one that was verified.
    """
    uris = [value for kind, value in shown.get("subjectAltName", ()) if kind == "URI"]
    if any(uri.startswith(SPIFFE) for uri in uris):
        return uris[0] if len(uris) == 1 and SPIFFE_ID.fullmatch(uris[0]) else ""
    names = [value for each in shown.get("subject", ()) for kind, value in each if kind == "commonName"]
    return f"CN={names[0]}" if len(names) == 1 and names[0] else ""


def forwarded(name: str, headers: Mapping[bytes, bytes], proxies: Set[str]) -> str:
    """What the core is told of a request's certificate: of a proxy's what it told itself. Empty: nothing."""
    if name not in proxies:
        return f"URI={name}" if name.startswith(SPIFFE) else f'Subject="CN={escaped(name.removeprefix("CN="))}"'
    told = headers.get(FORWARDED.encode(), b"")
    is_fit = len(told) <= FORWARDED_AT_MOST and all(0x20 <= byte < 0x7F for byte in told)
    return told.decode("ascii") if is_fit else ""


def escaped(value: str) -> str:
    r"""A value of a distinguished name as RFC 2253 lets it be written: "a\2Cb"."""
    plain = [letter.isascii() and (letter.isalnum() or letter in "-._/:@") for letter in value]
    return "".join(
        letter if is_plain else "".join(f"\\{byte:02X}" for byte in letter.encode())
        for letter, is_plain in zip(value, plain, strict=True)
    )
