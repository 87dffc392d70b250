"""`headgate envoy render`: what comes out for what the configuration says, and that the real Envoy takes it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway_core.config import Config, TimeoutsConfig
from gateway_core.config_file import ConfigError, load_front
from headgate_cli.envoy.commands import render, rendered
from headgate_cli.envoy.template import Values, filled
from headgate_cli.errors import CommandFailed
from tests.support.certificate import self_signed
from tests.support.envoy import needs_envoy, validated

STATIC = Path(__file__).parents[2] / "envoy/envoy.yaml"
REPLICAS = [{"host": "10.0.0.7"}, {"host": "10.0.0.8", "grpc": 50052, "http": 8081}]
PAGES = {"allowed_origins": ["https://app.example.com"]}


def config(envoy: dict[str, Any] | None = None, **more: Any) -> Config:
    return Config.model_validate({"envoy": envoy or {}, **more})


def document(of: Config) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(rendered(of))
    return loaded


def connections_of(whole: dict[str, Any]) -> dict[str, Any]:
    (listener,) = whole["static_resources"]["listeners"]
    found: dict[str, Any] = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return found


def routes_of(whole: dict[str, Any]) -> list[dict[str, Any]]:
    (host,) = connections_of(whole)["route_config"]["virtual_hosts"]
    return [route for route in host["routes"] if "route" in route]


def clusters_of(whole: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {cluster["name"]: cluster for cluster in whole["static_resources"]["clusters"]}


def answered_in_front(whole: dict[str, Any]) -> dict[str, int]:
    """Paths that Envoy itself answers, and how."""
    (host,) = connections_of(whole)["route_config"]["virtual_hosts"]
    found = [route for route in host["routes"] if "route" not in route]
    return {route["match"]["path"]: route["direct_response"]["status"] for route in found}


def filters_of(whole: dict[str, Any]) -> list[str]:
    return [each["name"].removeprefix("envoy.filters.http.") for each in connections_of(whole)["http_filters"]]


def test_the_file_in_the_repository_is_the_default() -> None:
    assert STATIC.read_text(encoding="utf-8") == rendered(Config())


MATRIX: dict[str, dict[str, Any]] = {
    "the default": {},
    "several addresses": {"envoy": {"listen": ["127.0.0.1:0", "[::1]:0"], "trusted_hops": 2, "per_address": None}},
    "TLS": {"envoy": {"tls": "given"}},
    "TLS, certificates of callers": {"envoy": {"tls": "authorities"}},
    "replicas": {"envoy": {"replicas": REPLICAS}},
    "replicas, ring hash": {"envoy": {"replicas": REPLICAS, "balance": "ring_hash", "hash_headers": ["a", "b"]}},
    "replicas by name": {"envoy": {"replicas": [{"host": "headgate.default.svc.cluster.local"}]}},
    "the core alone": {"envoy": {"replicas": [{"host": "10.0.0.7", "http": None}], "rate_limit_service": True}},
    "the bridge alone": {"envoy": {"replicas": [{"host": "::1", "grpc": None}] * 2, "balance": "ring_hash"}},
    "limits": {"envoy": {"rate_limit_service": True}},
    "keys": {"envoy": {"external_authorization": True}},
    "JSON": {"envoy": {"transcode": "/proto"}},
    "spans": {"envoy": {"otlp_url": "http://127.0.0.1:4318/v1/traces", "trace_percent": 12.5}},
    "spans to a name": {"envoy": {"otlp_url": "http://collector.example.com/v1/traces"}},
    "pages": {"cors": PAGES},
    "every page": {"cors": {"allowed_origins": ["*"]}},
    "all": {
        "envoy": {
            "tls": "authorities",
            "replicas": REPLICAS,
            "balance": "ring_hash",
            "transcode": "/a/b",
            "rate_limit_service": True,
            "external_authorization": True,
            "otlp_url": "http://127.0.0.1/",
        },
        "cors": PAGES,
    },
}


@needs_envoy
@pytest.mark.parametrize("case", MATRIX)
async def test_envoy_takes_what_is_rendered(case: str, tmp_path: Path) -> None:
    given = MATRIX[case]
    section = dict(given.get("envoy", {}))
    if "tls" in section:
        certificate, key = map(str, self_signed(tmp_path))
        authorities = {"client_authorities": certificate} if section["tls"] == "authorities" else {}
        section["tls"] = {"certificate": certificate, "private_key": key, **authorities}
    said = await validated(rendered(config(section, **{key: given[key] for key in given if key != "envoy"})), tmp_path)
    assert "[warning]" not in said
    assert "deprecated" not in said.lower()


@pytest.mark.parametrize("case", [case for case in MATRIX if "TLS" not in case and case != "all"])
def test_no_order_of_the_template_is_left_and_every_line_is_told_why(case: str) -> None:
    text = rendered(config(**MATRIX[case]))
    assert "#:" not in text
    assert "${" not in text
    assert text.count("  # ") > 50


def test_the_limits_leave_the_last_word_to_headgate() -> None:
    whole = document(config(limits={"header_seconds": 7, "header_bytes": 100_000, "keep_alive_seconds": 20}))
    connections, timeouts = connections_of(whole), TimeoutsConfig()
    assert seconds(connections["stream_idle_timeout"]) > max(Config().ping_seconds, timeouts.total_seconds)
    assert seconds(connections["request_headers_timeout"]) <= 7
    assert connections["max_request_headers_kb"] * 1024 > 100_000
    assert seconds(connections["request_timeout"]) > Config().limits.body_seconds
    assert answered_in_front(whole) == {"/metrics": 404}
    for route in routes_of(whole):
        to = route["route"]
        assert seconds(to["timeout"]) == (10 if route["match"].get("path") == "/healthz" else 0)
        assert "retry_policy" not in to
        assert ("max_stream_duration" in to) == (to["cluster"] == "core")
    for cluster in clusters_of(whole).values():
        (ceilings,) = cluster["circuit_breakers"]["thresholds"]
        assert ceilings["max_retries"] == 0
        most = min(ceilings[f"max_{things}"] for things in ("connections", "pending_requests", "requests"))
        assert most > 10_000
        # No one connection of a caller takes every place.
        assert connections["http2_protocol_options"]["max_concurrent_streams"] * 10 < most
    (options,) = clusters_of(whole)["bridge"]["typed_extension_protocol_options"].values()
    assert seconds(options["common_http_protocol_options"]["idle_timeout"]) < 20


def test_streams_may_be_idle_for_longer_than_the_slowest_provider_and_the_pings() -> None:
    slow = {"slow": {"kind": "echo", "timeouts": {"total_seconds": 9000}}}
    assert seconds(connections_of(document(config(providers=slow)))["stream_idle_timeout"]) > 9000
    quick = {"quick": {"kind": "echo", "timeouts": {"total_seconds": 5}}}
    idle = seconds(connections_of(document(config(providers=quick, ping_seconds=100)))["stream_idle_timeout"])
    assert 100 < idle < 300


def seconds(duration: str) -> float:
    assert duration.endswith("s")
    return float(duration[:-1])


def test_what_was_sent_is_never_sent_again() -> None:
    whole = document(config({"replicas": REPLICAS}))
    asked = {word for route in routes_of(whole) for word in words(route["route"].get("retry_policy", {}))}
    # Both mean that no replica has seen the request.
    assert asked == {"connect-failure", "refused-stream"}


def words(policy: dict[str, Any]) -> Iterator[str]:
    yield from filter(None, policy.get("retry_on", "").split(","))


def test_replicas_are_where_the_configuration_says() -> None:
    found = clusters_of(document(config({"replicas": REPLICAS})))
    assert places(found["core"]) == [("10.0.0.7", 50051), ("10.0.0.8", 50052)]
    assert places(found["bridge"]) == [("10.0.0.7", 8080), ("10.0.0.8", 8081)]
    assert {cluster["type"] for cluster in found.values()} == {"STATIC"}
    assert all("outlier_detection" in cluster for cluster in found.values())
    own = clusters_of(document(config(listen={"http": "0.0.0.0:80", "grpc": "0.0.0.0:81"})))
    assert (places(own["bridge"]), places(own["core"])) == ([("127.0.0.1", 80)], [("127.0.0.1", 81)])
    assert not any("outlier_detection" in cluster for cluster in own.values())
    named = clusters_of(document(config({"replicas": [{"host": "headgate"}]})))
    assert {cluster["type"] for cluster in named.values()} == {"STRICT_DNS"}


def places(cluster: dict[str, Any]) -> list[tuple[str, int]]:
    (group,) = cluster["load_assignment"]["endpoints"]
    found = [endpoint["endpoint"]["address"]["socket_address"] for endpoint in group["lb_endpoints"]]
    return [(address["address"], address["port_value"]) for address in found]


def test_what_a_switch_turns_on_is_there_and_nothing_else() -> None:
    usual = ["local_ratelimit", "grpc_web", "grpc_stats", "router"]
    assert filters_of(document(config())) == usual
    assert filters_of(document(config({"per_address": None}))) == usual[1:]
    assert "cors" in filters_of(document(config(cors=PAGES)))
    on = {"rate_limit_service": True, "external_authorization": True, "transcode": "/proto"}
    assert filters_of(document(config(on))) == [
        *("local_ratelimit", "grpc_web", "ext_authz", "ratelimit", "grpc_json_transcoder", "grpc_stats", "router")
    ]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"listen": {"grpc": "127.0.0.1:0"}}, "listen.grpc takes any free port"),
        ({"listen": {"grpc": None, "http": None}}, "there is nothing to front"),
        ({"listen": {"grpc": "10.0.0.1:1", "http": "10.0.0.2:2"}}, "of different hosts"),
        ({"listen": {"grpc": None}, "envoy": {"transcode": "/proto"}}, "envoy.transcode needs a core"),
        ({"listen": {"grpc": None}, "envoy": {"rate_limit_service": True}}, "envoy.rate_limit_service needs a core"),
    ],
)
def test_what_cannot_be_fronted_is_told(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(CommandFailed, match=re.escape(problem)):
        rendered(Config.model_validate(given))


@pytest.mark.parametrize("path", ["/v1", "/api", "/api/json", "/docs", "/healthz", "/metrics", "/headgate"])
def test_what_would_hide_a_path_of_headgates_own_is_refused(path: str, tmp_path: Path) -> None:
    file = tmp_path / "headgate.yaml"
    file.write_text(f"envoy: {{transcode: {path}}}\n")
    with pytest.raises(
        ConfigError, match=r"headgate.yaml:1: envoy.transcode: must be a path such as /proto: /"
    ) as told:
        load_front(file, {})
    assert "is Headgate's own" in str(told.value)


def test_no_value_changes_the_structure_of_the_file() -> None:
    evil = '/certs/a"b: {c}\n# d.pem'
    whole = document(config({"tls": {"certificate": evil, "private_key": evil}}))
    (listener,) = whole["static_resources"]["listeners"]
    (shown,) = listener["filter_chains"][0]["transport_socket"]["typed_config"]["common_tls_context"][
        "tls_certificates"
    ]
    assert shown == {"certificate_chain": {"filename": evil}, "private_key": {"filename": evil}}


LISTENERS = {"certificate": "/c.pem", "private_key": "/k.pem"}
UPSTREAM = {"authorities": "/a.pem", "names": ["spiffe://example.org/core", "10.0.0.7", "core.internal"]}


def test_headgate_is_reached_over_tls_where_it_listens_so() -> None:
    shown = {"certificate": "/e.pem", "private_key": "/f.pem"}
    tls = {"grpc": {**LISTENERS, "client_authorities": "/d.pem"}}
    found = clusters_of(document(config({"upstream_tls": {**UPSTREAM, **shown}}, tls=tls)))
    assert "transport_socket" not in found["bridge"]
    context = found["core"]["transport_socket"]["typed_config"]
    assert context["sni"] == "core.internal"
    common = context["common_tls_context"]
    assert common["alpn_protocols"] == ["h2"]
    assert common["tls_certificates"][0]["certificate_chain"] == {"filename": "/e.pem"}
    assert [(name["san_type"], name["matcher"]["exact"]) for name in common["validation_context"][
        "match_typed_subject_alt_names"
    ]] == [("URI", "spiffe://example.org/core"), ("IP_ADDRESS", "10.0.0.7"), ("DNS", "core.internal")]  # fmt: skip


@pytest.mark.parametrize(
    ("section", "tls", "problem"),
    [
        ({}, {"http": LISTENERS}, "envoy.upstream_tls is required"),
        (
            {"upstream_tls": UPSTREAM},
            {"grpc": {**LISTENERS, "client_authorities": "/d.pem"}},
            "envoy.upstream_tls.certificate is required",
        ),
    ],
)
def test_tls_behind_that_nothing_is_said_of_is_told(section: Any, tls: Any, problem: str) -> None:
    with pytest.raises(CommandFailed, match=problem):
        rendered(config(section, tls=tls))


def test_keys_of_providers_need_not_be_where_it_is_rendered(tmp_path: Path) -> None:
    file = tmp_path / "headgate.yaml"
    file.write_text(
        "providers: {lab: {kind: openai, base_url: '${NOWHERE}', api_key: '${NOBODY}', timeouts: {total_seconds: 9000}}}\n"
        "database_url: ${NO_DATABASE}\nenvoy: {trusted_hops: 2}\n"
    )
    found = load_front(file, {})
    assert (found.envoy.trusted_hops, found.providers["lab"].timeouts.total_seconds) == (2, 9000)
    file.write_text("envoi: {}\nenvoy: {listen: [x]}\n")
    with pytest.raises(ConfigError, match=r"envoi: there is no such key") as refused:
        load_front(file, {})
    assert "envoy.listen[0]: must be" in str(refused.value)


@pytest.mark.parametrize(
    ("asked", "answers"), [("rate_limit_service", "rate_limit"), ("external_authorization", "authorization")]
)
def test_what_nobody_answers_is_not_asked(tmp_path: Path, asked: str, answers: str) -> None:
    file, output = tmp_path / "headgate.yaml", tmp_path / "envoy.yaml"
    file.write_text(f"envoy: {{{asked}: true}}\n")
    with pytest.raises(CommandFailed, match=f"envoy.{asked} needs envoy_services.{answers}"):
        render(config=file, output=output)
    file.write_text(f"envoy: {{{asked}: true}}\nenvoy_services: {{{answers}: true}}\n")
    render(config=file, output=output)
    assert "cluster_name: core" in output.read_text()


def test_a_template_is_filled_and_a_wrong_one_refused() -> None:
    template = "a: ${a}\n#: if yes\nb\n#: else\nc\n#: end\n#: for rows\n- ${a}${b}\n#: if not yes\nd\n#: end\n#: end"
    values: Values = {"a": 1, "yes": False, "rows": [{"b": 2}, {"a": 3, "b": 4}]}
    assert filled(template, values) == "a: 1\nc\n- 12\nd\n- 34\nd\n"
    with pytest.raises(ValueError, match="no end for: if yes"):
        filled("#: if yes\na", values)
    with pytest.raises(ValueError, match="nothing of a template is open"):
        filled("a\n#: end\nb", values)
    with pytest.raises(ValueError, match="no order"):
        filled("#: unless yes\na", values)
    with pytest.raises(KeyError):
        filled("${nothing}", values)
