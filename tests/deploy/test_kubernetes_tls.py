"""With TLS from Envoy to the replicas everything else stays as it is, and a real Envoy reaches a real replica so."""

import socket
import ssl
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import yaml
from grpc import aio
from grpc_health.v1.health_pb2 import HealthCheckRequest
from grpc_health.v1.health_pb2_grpc import HealthStub

from gateway_core.config_file import parse
from headgate_cli.envoy.commands import rendered
from tests.deploy.documents import DEPLOY, ENVIRONMENT, KUBERNETES, configuration, program, said
from tests.headgate_cli.program import serving
from tests.support.authority import Authority
from tests.support.envoy import needs_envoy, started

OVERLAY = DEPLOY / "kubernetes-tls"
ROOT_KEY = "sk-hg-" + "d4" * 22
VALIDATE, KUBECTL = program("kubernetes-validate"), program("kubectl")
SAID = {"model": "echo/echo", "messages": [{"role": "user", "content": "Hello"}]}


def merged(kind: str) -> dict[str, Any]:
    """The pod of a workload with the patch of this folder."""
    documents = yaml.safe_load_all(said(KUBECTL, "kustomize", OVERLAY))
    (found,) = (each for each in documents if each["kind"] == kind)
    spec: dict[str, Any] = found["spec"]["template"]["spec"]
    return spec


@pytest.mark.skipif(KUBECTL is None or VALIDATE is None, reason="no kubectl, or no kubernetes-validate, here")
def test_all_together_are_valid(tmp_path: Path) -> None:
    whole = tmp_path / "whole.yaml"
    whole.write_text(said(KUBECTL, "kustomize", OVERLAY))
    said(VALIDATE, "--strict", whole)


def test_the_configuration_differs_in_nothing_but_tls() -> None:
    plain, with_tls = (
        configuration(folder / "config.yaml").model_dump(exclude={"tls", "client_certificates"})
        for folder in (KUBERNETES, OVERLAY)
    )
    assert with_tls["envoy"].pop("upstream_tls") is not None
    assert plain["envoy"].pop("upstream_tls") is None
    assert with_tls == plain


@pytest.mark.skipif(KUBECTL is None, reason="no kubectl here")
def test_files_are_where_the_configuration_looks_for_them_and_probes_speak_tls() -> None:
    config = configuration(OVERLAY / "config.yaml")
    (replica,), (envoy,) = (merged(kind)["containers"] for kind in ("StatefulSet", "Deployment"))
    places = {row["name"]: row["mountPath"] for each in (replica, envoy) for row in each["volumeMounts"]}
    assert config.tls.grpc is not None
    assert config.tls.http is not None
    assert config.envoy.upstream_tls is not None
    for listener in (config.tls.grpc, config.tls.http):
        assert listener.certificate.parent == listener.private_key.parent == Path("/etc/headgate-tls")
    assert Path(config.envoy.upstream_tls.authorities).parent == Path(places["upstream-tls"])
    assert {row["mountPath"] for row in replica["volumeMounts"]} >= {"/etc/headgate-tls"}
    assert config.tls.http.client_authorities is None  # a kubelet shows no certificate
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert replica[probe]["httpGet"] == {"path": "/healthz", "port": "http", "scheme": "HTTPS"}


@pytest.mark.skipif(KUBECTL is None, reason="no kubectl here")
def test_metrics_are_asked_for_as_they_are_shown() -> None:
    documents = yaml.safe_load_all(said(KUBECTL, "kustomize", OVERLAY))
    (replicas,) = (each for each in documents if each["kind"] == "StatefulSet")
    annotations = replicas["spec"]["template"]["metadata"]["annotations"]
    assert configuration(OVERLAY / "config.yaml").tls.http is not None
    assert annotations == {
        "prometheus.io/scrape": "true",
        "prometheus.io/scheme": "https",
        "prometheus.io/port": "8080",
        "prometheus.io/path": "/metrics",
    }


def files(directory: Path) -> tuple[dict[str, str], bytes]:
    """What stands in place of the Secrets: the paths in the configuration, and those of files that are there."""
    authority = Authority(directory)
    server = authority.issue("server", dns=("headgate-replicas.headgate.svc.cluster.local", "localhost"))
    client = authority.issue("client", common_name="headgate-front")
    places = {
        "/etc/headgate-tls/tls.crt": server.certificate,
        "/etc/headgate-tls/tls.key": server.private_key,
        "/etc/headgate-tls/ca.crt": authority.file,
        "/etc/headgate/upstream/tls.crt": client.certificate,
        "/etc/headgate/upstream/tls.key": client.private_key,
        "/etc/headgate/upstream/ca.crt": authority.file,
        "/etc/headgate/tls/tls.crt": server.certificate,
        "/etc/headgate/tls/tls.key": server.private_key,
    }
    return {there: str(here) for there, here in places.items()}, authority.file.read_bytes()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@needs_envoy
async def test_envoy_reaches_a_replica_and_nobody_without_a_certificate_does(tmp_path: Path) -> None:
    places, authority = files(tmp_path / "pki")
    text = (OVERLAY / "config.yaml").read_text(encoding="utf-8")
    for there, here in places.items():
        assert there in text
        text = text.replace(there, here)
    kept_elsewhere = ("database_url:", "redis_url:", "drain_delay_seconds:")
    text = "\n".join(line for line in text.splitlines() if not line.startswith(kept_elsewhere))
    (tmp_path / "headgate.yaml").write_text(text)
    http, grpc_port = free_port(), free_port()
    config = parse(text, "config.yaml", ENVIRONMENT)
    behind = config.envoy.replicas[0].model_copy(update={"host": "127.0.0.1", "http": http, "grpc": grpc_port})
    section = config.envoy.model_copy(
        update={"listen": ("127.0.0.1:0",), "admin": "127.0.0.1:0", "replicas": (behind,), "health_seconds": 0.1}
    )
    listen = ("--http", f"127.0.0.1:{http}", "--grpc", f"127.0.0.1:{grpc_port}")
    variables = {"HEADGATE_ROOT_KEY": ROOT_KEY, "OPENAI_API_KEY": "sk-none"}
    async with (
        serving(*listen, home=tmp_path, variables=variables),
        started(rendered(config.model_copy(update={"envoy": section})), tmp_path) as (admin, _, _),
        httpx.AsyncClient(
            verify=ssl.create_default_context(cadata=authority.decode()), trust_env=False, timeout=30
        ) as client,
    ):
        (listener,) = (await admin.get("/listeners", params={"format": "json"})).json()["listener_statuses"]
        port = listener["local_address"]["socket_address"]["port_value"]
        credentials = grpc.ssl_channel_credentials(authority)
        answered = await client.post(
            f"https://localhost:{port}/v1/chat/completions", json=SAID, headers={"authorization": f"Bearer {ROOT_KEY}"}
        )
        assert answered.status_code == 200, answered.text
        async with aio.secure_channel(f"localhost:{port}", credentials) as channel:
            await HealthStub(channel).Check(HealthCheckRequest(), timeout=20)
        async with aio.secure_channel(f"localhost:{grpc_port}", credentials) as channel:
            with pytest.raises(aio.AioRpcError) as refused:
                await HealthStub(channel).Check(HealthCheckRequest(), timeout=20)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert (await client.get(f"https://localhost:{http}/healthz")).status_code == 200  # as the kubelet asks
