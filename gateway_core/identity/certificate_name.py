"""The name that a certificate gives its owner: by what TLS tells of it, or by what a proxy tells in a header.

The header is Envoy's x-forwarded-client-cert
(https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_conn_man/headers#x-forwarded-client-cert): elements
between commas, each of pairs between semicolons. Envoy writes a URI as the certificate has it, without quotes or
escapes, so that its owner may have written what follows it: a header that is more than one element which ends with one
URI tells nothing.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

from gateway_core.config_tls import SPIFFE_ID

SPIFFE = "spiffe://"
REMEMBERED_BYTES = 2048
"""Longest header of which the name is remembered."""

PAIR = re.compile(r'[ \t]*([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^",;]*)[ \t]*([,;]|$)', re.ASCII)
ATTRIBUTE = re.compile(
    r"[ ]*([A-Za-z][A-Za-z0-9-]*|[0-9]+(?:\.[0-9]+)*)[ ]*=[ ]*"
    r'("(?:[^"\\]|\\.)*"|(?:[^"\\,;+]|\\.|(?<!=)")*)[ ]*([,;+]|$)',
    re.DOTALL,
)
"""Of a distinguished name as RFC 2253 writes it."""
ESCAPED = re.compile(rb"\\([0-9A-Fa-f]{2}|.)", re.DOTALL)
COMMON_NAME = frozenset({"CN", "2.5.4.3"})
TOLD = frozenset({"by", "hash", "cert", "chain", "subject", "uri"})
"""What an element may have: no "dns", which comes behind the URI and could be a part of it."""


def certificate_name(uris: Sequence[str], subject: str) -> str:
    """The SPIFFE ID among the URIs of a certificate; of one that has none "CN=" and its common name. Empty: neither.

    A certificate with a SPIFFE ID has no other URI (SPIFFE X.509-SVID, 2): one that has is nobody's, and so is one
    with several common names, and one whose SPIFFE ID could not be in the configuration. Takes the subject as RFC 2253
    writes it.
    """
    if any(uri.startswith(SPIFFE) for uri in uris):
        return uris[0] if len(uris) == 1 and SPIFFE_ID.fullmatch(uris[0]) else ""
    names = common_names(subject)
    return f"CN={names[0]}" if len(names) == 1 and names[0] else ""


def common_names(subject: str) -> list[str]:
    """The common names in a distinguished name; none where it cannot be read to its end."""
    names, at = [], 0
    while at < len(subject):
        match = ATTRIBUTE.match(subject, at)
        if match is None or match.end() == at:
            return []
        kind, value, separator = match.groups()
        at = match.end()
        if separator and at == len(subject):
            return []
        if kind.upper() in COMMON_NAME:
            names.append(plain(value))
    return names


def plain(value: str) -> str:
    r"""A value of a distinguished name without its quotes and escapes ("\,", "\C3\A9"). Empty: it cannot be read."""
    if value.startswith('"'):
        value = value[1:-1]
    elif value.startswith("#"):
        return ""
    elif not value.endswith("\\ "):
        value = value.rstrip(" ")
    try:
        return ESCAPED.sub(_unescaped, value.encode()).decode()
    except UnicodeDecodeError:
        return ""


def _unescaped(match: re.Match[bytes]) -> bytes:
    found = match[1]
    return bytes.fromhex(found.decode()) if len(found) == 2 else found


def forwarded_name(header: str) -> str:
    """The name of the certificate that an x-forwarded-client-cert tells of. Empty: it tells none."""
    return _remembered_name(header) if len(header) <= REMEMBERED_BYTES else _forwarded_name(header)


def _forwarded_name(header: str) -> str:
    pairs = only_element(header)
    keys = [key for key, _ in pairs]
    once = [key for key in keys if key != "by"]
    if len(set(once)) < len(once) or not TOLD.issuperset(keys) or "uri" in keys[:-1]:
        return ""
    told = dict(pairs)
    uri, subject = told.get("uri", ""), told.get("subject", "").strip()
    return certificate_name([uri] if uri else [], subject[1:-1] if subject.startswith('"') else subject)


_remembered_name = lru_cache(1024)(_forwarded_name)


def only_element(header: str) -> list[tuple[str, str]]:
    """The keys in small letters and the values as they are; empty where there are several elements, or no end is found.

    A backslash in quotes stays: Envoy puts a subject between them as it is, with the escapes of RFC 2253.
    """
    element: list[tuple[str, str]] = []
    at, separator = 0, ";"
    while separator:
        match = PAIR.match(header, at)
        if match is None or match[3] == ",":
            return []
        key, value, separator = match.groups()
        element.append((key.lower(), value))
        at = match.end()
    return element


def forwarded_element(name: str) -> str:
    """An element that tells a name, as `forwarded_name` reads it."""
    if name.startswith(SPIFFE):
        return f"URI={name}"
    return f'Subject="{distinguished(name)}"'


def distinguished(name: str) -> str:
    r"""The distinguished name of "CN=name": what is special in one, or no printable ASCII, is escaped ("\2C")."""
    kind, _, value = name.partition("=")
    return f"{kind}=" + "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "-._/:@") else escaped(letter) for letter in value
    )


def escaped(letter: str) -> str:
    """A character as RFC 2253 writes it byte by byte."""
    return "".join(f"\\{byte:02X}" for byte in letter.encode())
