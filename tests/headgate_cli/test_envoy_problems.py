"""What cannot be rendered is told with the file and the line."""

from pathlib import Path

import pytest

from headgate_cli.envoy.commands import chosen
from headgate_cli.errors import CommandFailed

TLS = "tls:\n  http: {certificate: server.crt, private_key: server.key, client_authorities: authority.crt}\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("storage: true\nenvoy:\n  rate_limit_service: true\n", ":3: envoy.rate_limit_service needs envoy_services"),
        (f"{TLS}envoy:\n  admin: 127.0.0.1:1\n", ":3: envoy.upstream_tls is required"),
        (TLS, ":1: envoy.upstream_tls is required"),
        (
            f"{TLS}envoy:\n  upstream_tls:\n    authorities: a.crt\n    names: ['${{NOT_SET:-core}}']\n",
            ":4: envoy.upstream_tls.certificate is required",
        ),
    ],
)
def test_what_cannot_be_rendered_names_the_file_and_the_line(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "headgate.yaml"
    file.write_text(text)
    with pytest.raises(CommandFailed) as refused:
        chosen(file)
    (problem,) = refused.value.problems
    assert problem.startswith(f"{file}{told}")
