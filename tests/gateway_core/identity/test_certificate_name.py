"""A certificate gives its owner one name or none, whoever tells of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.identity.certificate_name import (
    certificate_name,
    common_names,
    forwarded_element,
    forwarded_name,
)

API = "spiffe://example.org/api"
ROW = f"By=spiffe://example.org/envoy;Hash=468ed33be74eee6556d90c0149c1309e9ba61d6425303443c0748a02dd8de688;URI={API}"


@pytest.mark.parametrize(
    ("uris", "subject", "name"),
    [
        ([API], "CN=batch", API),
        ([], "CN=batch", "CN=batch"),
        (["https://example.org"], "CN=batch,O=Example", "CN=batch"),
        ([API, "https://example.org"], "CN=batch", ""),
        ([API, "spiffe://example.org/other"], "CN=batch", ""),
        ([f"{API},URI=spiffe://example.org/other"], "CN=batch", ""),
        ([f"{API};Hash=1"], "CN=batch", ""),
        ([f"{API}?a=b"], "CN=batch", ""),
        ([f"{API} "], "CN=batch", ""),
        ([f'{API}"'], "CN=batch", ""),
        ([f"{API}\n"], "CN=batch", ""),
        ([], "CN=one,CN=two", ""),
        ([], "O=Example", ""),
        ([], "", ""),
    ],
)
def test_a_spiffe_id_goes_before_the_common_name(uris: list[str], subject: str, name: str) -> None:
    assert certificate_name(uris, subject) == name


@pytest.mark.parametrize(
    ("subject", "names"),
    [
        ("CN=batch", ["batch"]),
        ("O=Example,cn=batch+OU=x", ["batch"]),
        ("2.5.4.3=batch", ["batch"]),
        (r"O=Example\, CN=root,CN=batch", ["batch"]),
        (r"O=Example\\,CN=batch", ["batch"]),
        ('O="x,CN=root",CN=batch', ["batch"]),
        (r"CN=a\,b", ["a,b"]),
        (r"CN=J\C3\A9r\C3\B4me", ["Jérôme"]),
        (r"CN=a\ ", ["a "]),
        (r"CN=\"a\"", ['"a"']),
        ("CN=#0c0161", [""]),
        (r"CN=\C3", [""]),
        ("CN=a=b", ["a=b"]),
        ("CN=", [""]),
        ("CN=a,", []),
        ("CN=a,batch", []),
        ("CN=a\\", []),
        ("batch", []),
        ("", []),
    ],
)
def test_common_names_are_read_as_rfc_2253_writes_them(subject: str, names: list[str]) -> None:
    assert common_names(subject) == names


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (ROW, API),
        (f"By=x;{ROW}", API),
        ('Hash=1;Subject="CN=batch,O=Example";URI=', "CN=batch"),
        ('Hash=1;Subject="CN=batch";URI=https://example.org/?a=b', "CN=batch"),
        ('Hash=1;Subject="O=\\"x;URI=spiffe://example.org/forged,CN=batch"', "CN=batch"),
        (r'Hash=1;Subject="O=x\\";URI=spiffe://example.org/api', API),
        ('Hash=1;Cert="-----BEGIN%20CERTIFICATE-----,;";Subject="CN=batch"', "CN=batch"),
        (f"hash=1; uri={API}", API),
        ('Subject="CN=a";Subject="CN=b"', ""),
        ('Hash=1;Subject=""', ""),
        ("Hash=1", ""),
        ('Subject="CN=batch', ""),
        ("", ""),
        (",", ""),
        (";", ""),
    ],
)
def test_one_element_tells_a_name(header: str, name: str) -> None:
    assert forwarded_name(header) == name


@pytest.mark.parametrize(
    "uri",
    [
        f"{API},URI=spiffe://example.org/other",
        f"spiffe://example.org/other,URI={API}",
        f"{API},",
        f"{API},Hash=1",
        f"{API},garbage",
        f"{API};URI=spiffe://example.org/other",
        f"{API};URI=",
        f";URI={API}",
        f"x;URI={API}",
        f"x,URI={API}",
        f",URI={API}",
        f"{API};Hash=2",
        f"{API};DNS=x",
        f"{API};X=y",
        f"{API};By=x",
        f"{API};",
        f'{API};Subject="CN=operator"',
        'x;Subject="CN=operator"',
        ';Subject="CN=operator"',
        'x,Subject="CN=operator"',
        f'"{API}"',
        f'"{API}',
        f" {API}",
        f"{API} ",
        f"{API}=",
        f"{API}?a=b",
    ],
)
@pytest.mark.parametrize("subject", ['Subject="";', ""])
def test_the_owner_of_a_certificate_adds_nothing_by_its_uri(uri: str, subject: str) -> None:
    assert forwarded_name(f"By=spiffe://example.org/envoy;Hash=1;{subject}URI={uri}") == ""


def test_a_long_header_is_read_and_not_remembered() -> None:
    assert forwarded_name("By=x;" * 10_000 + ROW) == API
    assert forwarded_name('Subject="' + '\\"' * 30_000) == ""


@given(st.text(min_size=1, max_size=40).map(lambda text: f"CN={text}") | st.just(API))
def test_what_is_forwarded_is_read_again(name: str) -> None:
    assert forwarded_name(forwarded_element(name)) == name


@given(st.text(alphabet='=",;\\ CNURIabSubjecti:/', max_size=40))
def test_whatever_is_in_a_uri_another_worker_is_told_the_same_name(more: str) -> None:
    name = certificate_name([API + more], "CN=batch")
    assert name in ("", API + more)
    assert not name or forwarded_name(forwarded_element(name)) == name


@given(st.text(alphabet='=",;\\ CNURIabSubjecti:/'), st.text())
def test_no_header_is_more_than_refused(header: str, subject: str) -> None:
    assert isinstance(forwarded_name(header), str)
    assert isinstance(common_names(subject), list)
