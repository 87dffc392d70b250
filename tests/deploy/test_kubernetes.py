"""The manifests are valid, agree with each other and with the configuration in them, and ask for no more than they need."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway_core.config import Config
from headgate_cli.envoy.commands import rendered
from tests.deploy.documents import (
    KUBERNETES,
    configuration,
    kustomization,
    manifest,
    manifests,
    pods,
    program,
    said,
)
from tests.support.certificate import self_signed
from tests.support.envoy import needs_envoy, validated

FILES = kustomization()["resources"]
REPLICA = {"app.kubernetes.io/name": "headgate", "app.kubernetes.io/component": "replica"}
FRONT = {"app.kubernetes.io/name": "headgate", "app.kubernetes.io/component": "front"}
EXACT = re.compile(r":(distroless-)?v?\d+\.\d+\.\d+(-[a-z0-9.]+)?$|@sha256:[0-9a-f]{64}$")
SECRET_NAMES = re.compile(r"KEY|PASSWORD|URL|TOKEN|SECRET")
VALIDATE, KUBECTL = program("kubernetes-validate"), program("kubectl")

config: Config = configuration(KUBERNETES / "config.yaml")


def containers() -> list[dict[str, Any]]:
    return [
        each
        for pod in pods().values()
        for part in ("initContainers", "containers")
        for each in pod["spec"].get(part, [])
    ]


def ports(pod: dict[str, Any]) -> dict[str, int]:
    """The numbers of a pod's ports, by their names."""
    return {port["name"]: port["containerPort"] for each in pod["spec"]["containers"] for port in each["ports"]}


@pytest.mark.skipif(VALIDATE is None, reason="no kubernetes-validate here")
@pytest.mark.parametrize("name", FILES)
def test_a_manifest_has_no_key_that_kubernetes_does_not_know(name: str) -> None:
    said(VALIDATE, "--strict", KUBERNETES / name)


@pytest.mark.skipif(VALIDATE is None, reason="no kubernetes-validate here")
def test_the_schemas_refuse_what_is_wrong(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text((KUBERNETES / "autoscaling.yaml").read_text().replace("minReplicas:", "leastReplicas:"))
    with pytest.raises(AssertionError, match="leastReplicas"):
        said(VALIDATE, "--strict", wrong)


@pytest.mark.skipif(KUBECTL is None or VALIDATE is None, reason="no kubectl, or no kubernetes-validate, here")
def test_all_together_are_valid_too_and_all_images_come_from_a_registry(tmp_path: Path) -> None:
    whole = tmp_path / "whole.yaml"
    whole.write_text(said(KUBECTL, "kustomize", KUBERNETES))
    said(VALIDATE, "--strict", whole)
    built = list(yaml.safe_load_all(whole.read_text()))
    assert {each["metadata"].get("namespace", "headgate") for each in built} == {"headgate"}
    (told,) = (each["metadata"]["name"] for each in built if each["kind"] == "ConfigMap")
    assert whole.read_text().count(f"name: {told}\n") == 3  # itself, and what mounts it
    images = [line.split()[-1] for line in whole.read_text().splitlines() if line.lstrip("- ").startswith("image: ")]
    assert len(images) == 3
    assert all("/" in image for image in images)


def test_every_file_is_listed() -> None:
    assert {file.name for file in KUBERNETES.glob("*.yaml")} == {*FILES, "kustomization.yaml", "config.yaml"}


def test_there_is_what_a_deployment_needs_and_no_secret() -> None:
    kinds = {each["kind"] for each in manifests()}
    assert kinds == {
        "Namespace", "ServiceAccount", "Service", "StatefulSet", "Deployment", "HorizontalPodAutoscaler",
        "PodDisruptionBudget", "NetworkPolicy",
    }  # fmt: skip


def test_secrets_are_references() -> None:
    named = [row for each in containers() for row in each.get("env", []) if SECRET_NAMES.search(row["name"])]
    assert len(named) >= 5
    for row in named:
        assert row["valueFrom"]["secretKeyRef"]["name"] == "headgate-secrets", row["name"]


def test_the_configuration_needs_no_variable_that_no_secret_has() -> None:
    asked = set(re.findall(r"\$\{(\w+)\}", (KUBERNETES / "config.yaml").read_text()))
    assert asked <= {row["name"] for row in pods()["StatefulSet"]["spec"]["containers"][0]["env"]}


def test_images_have_exact_versions() -> None:
    for each in containers():
        assert EXACT.search(each["image"]), each["image"]
    for row in kustomization()["images"]:
        assert EXACT.search(f":{row['newTag']}")
        assert row["name"] in {each["image"].rpartition(":")[0] for each in containers()}


def test_pods_meet_the_restricted_standard() -> None:
    for pod in pods().values():
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["enableServiceLinks"] is False  # HEADGATE_… of a Service would be read as Headgate's own
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        account = manifest("ServiceAccount", pod["spec"]["serviceAccountName"])
        assert account["automountServiceAccountToken"] is False
    for each in containers():
        assert each["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        assert each["resources"]["limits"]["memory"]
        assert each["resources"]["requests"]


def test_each_container_that_serves_is_probed() -> None:
    for pod in pods().values():
        for each in pod["spec"]["containers"]:
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                (asked,) = (each[probe][way] for way in ("httpGet", "tcpSocket") if way in each[probe])
                assert asked["port"] in ports(pod)
                assert asked.get("path", "/healthz") == "/healthz"
                # The kubelet shows no certificate.
                assert config.tls.http is None
                assert "scheme" not in asked


def test_a_replica_has_the_time_that_it_takes_to_drain() -> None:
    spec = pods()["StatefulSet"]["spec"]
    assert spec["terminationGracePeriodSeconds"] >= config.drain_delay_seconds + config.drain_seconds + 10
    ready = spec["containers"][0]["readinessProbe"]
    # Whoever sends calls here has noticed: Envoy, and the cluster's own list of addresses.
    assert config.drain_delay_seconds > 2 * config.envoy.health_seconds
    assert config.drain_delay_seconds > ready["periodSeconds"] * ready["failureThreshold"]


def test_an_envoy_outlives_the_streams_of_a_replica_that_drains() -> None:
    spec = pods()["Deployment"]["spec"]
    pause = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert spec["terminationGracePeriodSeconds"] > pause
    assert pause >= config.drain_seconds


@pytest.mark.parametrize(("kind", "labels"), [("StatefulSet", REPLICA), ("Deployment", FRONT)])
def test_selectors_find_their_pods(kind: str, labels: dict[str, str]) -> None:
    pod = pods()[kind]
    assert pod["metadata"]["labels"] == labels
    (workload,) = (each for each in manifests() if each["kind"] == kind)
    assert workload["spec"]["selector"]["matchLabels"] == labels
    for spread in pod["spec"]["topologySpreadConstraints"]:
        assert spread["labelSelector"]["matchLabels"] == labels
    services = [each for each in manifests() if each["kind"] == "Service" and each["spec"]["selector"] == labels]
    assert services
    for service in services:
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in ports(pod)
    (budget,) = (
        each
        for each in manifests()
        if each["kind"] == "PodDisruptionBudget" and each["spec"]["selector"]["matchLabels"] == labels
    )
    assert budget["spec"]["maxUnavailable"] == 1


def test_ports_are_those_of_the_configuration() -> None:
    replica, front = ports(pods()["StatefulSet"]), ports(pods()["Deployment"])
    assert config.listen.http == f"0.0.0.0:{replica['http']}"
    assert config.listen.grpc == f"0.0.0.0:{replica['grpc']}"
    assert config.envoy.listen == (f"0.0.0.0:{front['https']}",)
    (behind,) = config.envoy.replicas
    assert (behind.http, behind.grpc) == (replica["http"], replica["grpc"])
    service = manifest("Service", "headgate-replicas")
    assert behind.host == f"{service['metadata']['name']}.{kustomization()['namespace']}.svc.cluster.local"
    assert {row["name"]: row["port"] for row in service["spec"]["ports"]} == replica
    assert service["spec"]["clusterIP"] == "None"
    assert manifest("StatefulSet", "headgate")["spec"]["serviceName"] == service["metadata"]["name"]


def test_files_are_where_the_configuration_and_the_arguments_look_for_them() -> None:
    replica, front = pods()["StatefulSet"]["spec"], pods()["Deployment"]["spec"]
    (own,) = replica["containers"]
    mounts = {row["name"]: row["mountPath"] for row in own["volumeMounts"]}
    (named,) = (entry.partition("=")[0] for entry in kustomization()["configMapGenerator"][0]["files"])
    assert own["args"] == ["serve", "--config", f"{mounts['config']}/{named}"]
    (claim,) = manifest("StatefulSet", "headgate")["spec"]["volumeClaimTemplates"]
    data = {row["name"]: row.get("value") for row in own["env"]}["HEADGATE_DATA"]
    assert mounts[claim["metadata"]["name"]] == data
    (render,), (envoy,) = front["initContainers"], front["containers"]
    assert render["args"][:4] == ["envoy", "render", "--config", f"{mounts['config']}/{named}"]
    assert envoy["args"][:2] == ["-c", render["args"][-1]]
    assert config.envoy.tls is not None
    (place,) = (row["mountPath"] for row in envoy["volumeMounts"] if row["name"] == "tls")
    assert (config.envoy.tls.certificate, config.envoy.tls.private_key) == (f"{place}/tls.crt", f"{place}/tls.key")


def test_only_envoy_and_the_metrics_reader_reach_a_replica() -> None:
    assert manifest("NetworkPolicy", "nobody")["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    spec = manifest("NetworkPolicy", "headgate-replica")["spec"]
    assert spec["podSelector"]["matchLabels"] == REPLICA
    envoys, metrics = spec["ingress"]
    assert envoys["from"] == [{"podSelector": {"matchLabels": FRONT}}]
    assert [row["port"] for row in envoys["ports"]] == sorted(ports(pods()["StatefulSet"]).values())
    assert "namespaceSelector" in metrics["from"][0]
    asked = [row["port"] for rule in spec["egress"] for row in rule["ports"]]
    assert asked == [53, 53, 5432, 6379, 443]
    (internet,) = (rule["to"] for rule in spec["egress"] if rule["ports"][0]["port"] == 443)
    assert "169.254.0.0/16" in internet[0]["ipBlock"]["except"]  # the cloud's metadata
    front = manifest("NetworkPolicy", "headgate-front")["spec"]
    assert front["podSelector"]["matchLabels"] == FRONT
    assert front["ingress"] == [{"ports": [{"protocol": "TCP", "port": ports(pods()["Deployment"])["https"]}]}]


def test_the_number_of_replicas_follows_the_calls_in_flight_and_nobody_else_says_it() -> None:
    spec = manifest("HorizontalPodAutoscaler", "headgate")["spec"]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "headgate"}
    assert spec["metrics"][0]["pods"]["metric"]["name"] == "headgate_calls_in_flight"
    assert spec["minReplicas"] >= 2
    assert "replicas" not in manifest("StatefulSet", "headgate")["spec"]


@needs_envoy
async def test_envoy_takes_what_is_rendered_from_the_configuration(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    assert config.envoy.tls is not None
    text = rendered(config)
    for there, here in ((config.envoy.tls.certificate, certificate), (config.envoy.tls.private_key, key)):
        assert there in text
        text = text.replace(there, str(here))
    await validated(text, tmp_path)
