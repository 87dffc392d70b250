"""What the configuration says of TLS and of certificates is checked before a file is opened."""

from typing import Any

import pytest

from gateway_core.config_file import ConfigError, parse

LISTENER = "tls: {grpc: {certificate: a.pem, private_key: a.key, client_authorities: ca.pem}}\n"


def problem(text: str) -> str:
    with pytest.raises(ConfigError) as raised:
        parse(text, "headgate.yaml", {})
    return "\n".join(raised.value.problems)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("tls: {grpc: {certificate: a.pem}}", "headgate.yaml:1: tls.grpc.private_key: is required"),
        ("tls: {grpc: {certificat: a.pem}}", "there is no such key; is it 'certificate'?"),
        ("core_tls: {certificate: a.pem}", "core_tls: certificate and private_key go together"),
        (
            LISTENER + "client_certificates: {accounts: {batch: root}}",
            '\'batch\' must be like "spiffe://example.org/path" or "CN=name"',
        ),
        (LISTENER + "client_certificates: {proxies: [spiffe://Example.org/envoy]}", "must be like"),
        (LISTENER + "client_certificates: {proxies: [CN=]}", "must be like"),
        (
            LISTENER + 'client_certificates: {accounts: {CN=envoy: root}, proxies: ["CN=envoy"]}',
            "'CN=envoy' is in accounts and in proxies",
        ),
        (
            "client_certificates: {accounts: {CN=batch: root}}",
            "headgate.yaml:1: client_certificates.accounts: needs tls.grpc.client_authorities or tls.http",
        ),
        (
            "storage: false\n" + LISTENER + "client_certificates: {accounts: {CN=batch: root}}",
            "storage: false keeps nothing, which client_certificates needs",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_key(text: str, found: str) -> None:
    assert found in problem(text)


def test_names_and_files_are_taken_as_they_stand() -> None:
    names: dict[str, Any] = {"spiffe://example.org/ns/search/sa/api": "acme", "CN=batch job": "root"}
    rows = "\n".join(f'    "{name}": {account}' for name, account in names.items())
    text = LISTENER + f"client_certificates:\n  proxies: [spiffe://example.org/envoy]\n  accounts:\n{rows}\n"
    config = parse(text, "headgate.yaml", {})
    assert config.client_certificates.accounts == names
    assert config.tls.http is None
    assert config.tls.grpc is not None
    assert str(config.tls.grpc.client_authorities) == "ca.pem"
