"""The bridge tells the core whose certificate a client showed, or what a proxy tells of its own clients."""

from typing import Any

import pytest

from rest_bridge.certificate import certificate_name, forwarded

API = "spiffe://example.org/api"
PROXIES = frozenset({"spiffe://example.org/envoy", "CN=edge"})


def shown(*uris: str, names: tuple[str, ...] = ()) -> dict[str, Any]:
    """What ssl tells of a certificate."""
    others = (("DNS", "localhost"), ("IP Address", "127.0.0.1"))
    subject = ((("organizationName", "Example"),), *((("commonName", name),) for name in names))
    return {"subject": subject, "subjectAltName": (*(("URI", uri) for uri in uris), *others)}


@pytest.mark.parametrize(
    ("certificate", "name"),
    [
        (shown(API, names=("batch",)), API),
        (shown(names=("batch",)), "CN=batch"),
        (shown("https://example.org", names=("batch",)), "CN=batch"),
        (shown(API, "https://example.org"), ""),
        (shown(f"{API};URI=spiffe://example.org/other"), ""),
        (shown(f"{API},x"), ""),
        (shown(names=("one", "two")), ""),
        (shown(names=("",)), ""),
        (shown(), ""),
        ({}, ""),
    ],
)
def test_a_certificate_has_one_name_or_none(certificate: dict[str, Any], name: str) -> None:
    assert certificate_name(certificate) == name


@pytest.mark.parametrize(
    ("name", "header", "told"),
    [
        (API, None, f"URI={API}"),
        (API, b"URI=spiffe://example.org/forged", f"URI={API}"),
        ("CN=batch", None, 'Subject="CN=batch"'),
        ('CN=a",é\\', b"x", r'Subject="CN=a\22\2C\C3\A9\5C"'),
        ("spiffe://example.org/envoy", b"Hash=1;URI=spiffe://a/b", "Hash=1;URI=spiffe://a/b"),
        ("CN=edge", b"Hash=1", "Hash=1"),
        ("CN=edge", None, ""),
        ("CN=edge", b"Hash=\xff", ""),
        ("CN=edge", b"x" * 16385, ""),
    ],
)
def test_only_proxies_tell_of_others(name: str, header: bytes | None, told: str) -> None:
    headers = {} if header is None else {b"x-forwarded-client-cert": header}
    assert forwarded(name, headers, PROXIES) == told
