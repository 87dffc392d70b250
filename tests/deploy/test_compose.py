"""The Compose file is valid, agrees with the configuration beside it, and gives nothing away."""

import re
from typing import Any

import pytest

from gateway_core.config import Config
from headgate_cli.envoy.commands import rendered
from tests.deploy.documents import DEPLOY, compose, configuration, program, said
from tests.support.envoy import needs_envoy, validated

SERVICES: dict[str, dict[str, Any]] = compose()["services"]
REPLICAS = ("replica-1", "replica-2")
CHECK = program("check-jsonschema")
EXACT = re.compile(r":(distroless-)?v?\d+\.\d+(\.\d+)?(-[a-z0-9.]+)?$")
REFERENCE = re.compile(r"\$\{(\w+):\?[^}]+\}")

config: Config = configuration(DEPLOY / "compose-config.yaml")


def seconds(duration: str) -> float:
    assert duration.endswith("s")
    return float(duration[:-1])


@pytest.mark.skipif(CHECK is None, reason="no check-jsonschema here")
def test_it_has_no_key_that_compose_does_not_know(tmp_path: Any) -> None:
    said(CHECK, "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((DEPLOY / "compose.yaml").read_text().replace("stop_grace_period", "stop_grace"))
    with pytest.raises(AssertionError, match="stop_grace"):
        said(CHECK, "--builtin-schema", "vendor.compose-spec", wrong)


def test_there_are_envoy_two_replicas_and_their_stores() -> None:
    assert set(SERVICES) == {"render", "front", *REPLICAS, "postgres", "valkey"}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_confined(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"].partition(":")[0] not in {"", "0", "root"}
    assert EXACT.search(service["image"]), service["image"]
    assert not service.get("privileged")


def test_what_others_wait_for_tells_its_health() -> None:
    for name in (*REPLICAS, "postgres", "valkey"):
        assert SERVICES[name]["healthcheck"]["test"]
    for service in SERVICES.values():
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] == ("service_completed_successfully" if other == "render" else "service_healthy")


def test_secrets_are_references_and_the_example_names_them_all() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    asked = set(REFERENCE.findall(text))
    assert len(asked) == 5
    assert "${" not in REFERENCE.sub("", text)  # each has no default, and is refused where it is not set
    example = dict(
        line.split("=", 1) for line in (DEPLOY / ".env.example").read_text().splitlines() if not line.startswith("#")
    )
    assert example == dict.fromkeys(asked, "")
    for service in SERVICES.values():
        for key, value in service.get("environment", {}).items():
            if re.search("KEY|PASSWORD|URL", key):
                assert REFERENCE.search(value), key
        # Only files of the host can be mounted where the root is read-only (github.com/docker/compose/issues/12031).
        assert "secrets" not in service
    assert all(set(source) == {"file"} for source in compose()["configs"].values())


def test_the_configuration_needs_no_variable_that_a_replica_does_not_get() -> None:
    asked = set(re.findall(r"\$\{(\w+)\}", (DEPLOY / "compose-config.yaml").read_text())) - {"…"}
    for name in REPLICAS:
        assert asked <= set(SERVICES[name]["environment"])


def test_a_replica_has_the_time_that_it_takes_to_drain() -> None:
    for name in REPLICAS:
        grace = seconds(SERVICES[name]["stop_grace_period"])
        assert grace >= config.drain_delay_seconds + config.drain_seconds + 5
    assert config.drain_delay_seconds > 2 * config.envoy.health_seconds


def test_the_store_has_memory_for_all_streams_that_can_be_continued() -> None:
    memory = re.search(r"maxmemory (\d+)mb\\n", SERVICES["valkey"]["command"][-1])
    assert memory is not None
    detach = config.detach
    # As docs/streams.md says.
    copy = detach.buffer_bytes + max(detach.buffer_bytes // 8, 64 * 1024)
    assert int(memory[1]) * (1 << 20) >= 1.25 * len(REPLICAS) * detach.calls * copy


def test_each_replica_has_a_volume_of_its_own() -> None:
    volumes = [SERVICES[name]["volumes"] for name in REPLICAS]
    assert volumes == [[f"{name}:/var/lib/headgate"] for name in REPLICAS]
    assert set(compose()["volumes"]) >= set(REPLICAS)


def test_envoy_finds_the_replicas_and_they_believe_it_alone() -> None:
    assert tuple(row.host for row in config.envoy.replicas) == REPLICAS
    assert {(f"0.0.0.0:{row.http}", f"0.0.0.0:{row.grpc}") for row in config.envoy.replicas} == {
        (config.listen.http, config.listen.grpc)
    }
    address = SERVICES["front"]["networks"]["backend"]["ipv4_address"]
    assert config.limits.trusted_proxies == {address}
    assert [str(network) for network in config.limits.trusted_bridges] == [f"{address}/32"]
    (listen,) = config.envoy.listen
    assert SERVICES["front"]["ports"] == [f"127.0.0.1:10000:{listen.rpartition(':')[2]}"]
    assert not any("ports" in SERVICES[name] for name in SERVICES if name != "front")


def test_what_is_rendered_is_what_envoy_reads() -> None:
    render, front = SERVICES["render"], SERVICES["front"]
    (written,), (read,) = render["volumes"], front["volumes"]
    volume, _, place = written.partition(":")
    assert read == f"{volume}:/etc/envoy-headgate:ro"
    assert render["command"][-1] == f"{place}/envoy.yaml"
    assert front["command"][:2] == ["-c", "/etc/envoy-headgate/envoy.yaml"]
    (mounted,) = render["configs"]
    assert render["command"][:4] == ["envoy", "render", "--config", mounted["target"]]
    assert compose()["configs"][mounted["source"]] == {"file": "compose-config.yaml"}


@needs_envoy
async def test_envoy_takes_what_is_rendered_from_the_configuration(tmp_path: Any) -> None:
    await validated(rendered(config), tmp_path)
