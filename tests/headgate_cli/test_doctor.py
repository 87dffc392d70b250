import socket
from email.utils import formatdate
from pathlib import Path

import pytest

from gateway_core.call import Target
from gateway_core.config import Config, ModelConfig, ProviderConfig, TargetConfig
from headgate_cli.address import Address
from headgate_cli.checks import Check, ProviderCheck, circuits_check, clock_check, clock_offset, port_check
from headgate_cli.doctor import examine
from headgate_cli.locations import data_directory, key_place
from tests.headgate_cli.program import ended
from tests.support.certificate import server_context
from tests.support.gateway import running
from tests.support.upstream import Upstream, answer, json_answer, refusing

LISTED = {"object": "list", "data": [{"id": "a"}, {"id": "b"}]}


def row(base_url: str, **fields: object) -> ProviderConfig:
    return ProviderConfig.model_validate({"kind": "openai", "base_url": base_url, "api_key": "sk-secret", **fields})


async def checked(provider: ProviderConfig) -> Check:
    check = await ProviderCheck("lab", provider, "headgate.yaml:2, variable LAB_KEY").run()
    assert "secret" not in f"{check.text}{check.advice}"
    return check


async def test_a_provider_that_answers_is_told_with_its_latency(upstream: Upstream) -> None:
    upstream.script(json_answer(LISTED))
    check = await checked(row(upstream.base_url))
    assert check.verdict == "ok"
    assert "lists 2 models (name " in check.text
    assert (await upstream.received()).headers["authorization"] == "Bearer sk-secret"


async def test_anthropic_is_asked_for_its_models_in_its_own_way(upstream: Upstream) -> None:
    upstream.script(json_answer({"data": [{"id": "a"}], "has_more": False}))
    check = await checked(row(upstream.base_url, kind="anthropic"))
    assert "lists 1 models" in check.text
    headers = (await upstream.received()).headers
    assert (headers["x-api-key"], headers["anthropic-version"]) == ("sk-secret", "2023-06-01")
    assert "authorization" not in headers


async def test_bedrock_is_reached_and_not_asked_for_models(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"region": "us-east-1", "access_key_id": "AKID", "secret_access_key": "sk-secret"}
    lab = ProviderConfig.model_validate({"kind": "bedrock", "base_url": upstream.base_url, "aws": keys})
    check = await checked(lab)
    assert check.verdict == "ok"
    assert "can be reached" in check.text
    assert not upstream.requests
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name, raising=False)
    keyless = await ProviderCheck("lab", ProviderConfig(kind="bedrock"), "").run()
    assert (keyless.verdict, "aws.access_key_id" in keyless.text) == ("wrong", True)


async def test_a_key_that_is_refused_is_told_with_its_variable_and_line(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script(json_answer({"error": {"message": "Incorrect API key provided"}}, 401))
    (tmp_path / "headgate.yaml").write_text(
        "listen: {http: 127.0.0.1:0, grpc: 127.0.0.1:0}\n"
        "providers:\n"
        f"  lab: {{kind: openai, base_url: {upstream.base_url}, api_key: ${{LAB_KEY}}}}\n"
    )
    result = await ended("doctor", home=tmp_path, variables={"LAB_KEY": "sk-secret"})
    assert result.code == 1
    lines = result.out.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("WRONG"))
    assert "provider lab" in lines[at]
    assert "refuses the key (HTTP status 401)" in lines[at]
    assert "(headgate.yaml:3, variable LAB_KEY)" in lines[at + 1]
    assert lines[-1] == "1 thing is wrong"
    assert "secret" not in result.out + result.err


async def test_a_key_of_the_environment_is_told_by_its_variable(tmp_path: Path, upstream: Upstream) -> None:
    upstream.script(json_answer({}, 403))
    variables = {"OPENAI_API_KEY": "sk-secret", "OPENAI_BASE_URL": upstream.base_url}
    result = await ended("doctor", home=tmp_path, variables=variables)
    assert result.code == 1
    assert "set a key that holds (from OPENAI_API_KEY and OPENAI_BASE_URL)" in result.out


@pytest.mark.parametrize(
    ("status", "document", "verdict", "text"),
    [
        (200, {"data": None}, "ok", "lists 0 models"),
        (200, {"hello": "world", "data": "x"}, "wrong", "answers, but not as OpenAI's API does"),
        (200, ["x"], "wrong", "answers, but not as OpenAI's API does"),
        (404, {}, "wrong", "has no list of models"),
        (429, {}, "note", "limits the rate"),
        (503, {}, "wrong", "is in trouble (HTTP status 503)"),
    ],
)
async def test_every_status_is_read(upstream: Upstream, status: int, document: object, verdict: str, text: str) -> None:
    upstream.script(json_answer(document, status))
    check = await checked(row(upstream.base_url))
    assert (check.verdict, check.advice != "") == (verdict, verdict != "ok")
    assert text in check.text


async def test_gemini_is_asked_in_its_own_way(upstream: Upstream) -> None:
    upstream.script(json_answer({"models": [{"name": "models/gemini-a"}]}))
    check = await checked(row(upstream.base_url, kind="gemini"))
    assert check.verdict == "ok"
    assert "lists 1 models" in check.text
    assert upstream.requests[0].headers["x-goog-api-key"] == "sk-secret"
    assert "authorization" not in upstream.requests[0].headers
    upstream.script(json_answer({"error": {"code": 400, "message": "API key not valid."}}, 400))
    check = await checked(row(upstream.base_url, kind="gemini"))
    assert "refuses the key (HTTP status 400)" in check.text


async def test_a_missing_key_is_told(upstream: Upstream) -> None:
    upstream.script(json_answer({}, 401))
    check = await checked(row(upstream.base_url, api_key=None))
    assert "wants a key" in check.text


async def test_a_closed_port_is_told() -> None:
    with refusing() as url:
        check = await checked(row(url))
    assert check.verdict == "wrong"
    assert "no connection: Connection refused" in check.text


async def test_an_unknown_name_is_told() -> None:
    check = await checked(row("http://no-such-host.invalid/v1"))
    assert check.verdict == "wrong"
    assert "the name no-such-host.invalid is not known" in check.text


async def test_a_certificate_that_nobody_trusts_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    async with Upstream(tls=server_context(tmp_path)) as upstream:
        check = await checked(row(upstream.base_url))
    assert "its certificate is not trusted: self-signed certificate" in check.text
    assert "SSL_CERT_FILE" in check.advice


async def test_a_server_without_tls_is_told(upstream: Upstream) -> None:
    check = await checked(row(upstream.base_url.replace("http:", "https:")))
    assert "no TLS" in check.text


async def test_a_host_that_lists_no_models_is_only_reached(upstream: Upstream) -> None:
    check = await checked(row(upstream.base_url, lists_models=False))
    assert check.verdict == "ok"
    assert "its key is not checked" in check.text
    assert upstream.requests == []


def test_credentials_in_a_url_are_refused_and_not_shown() -> None:
    with pytest.raises(ValueError, match="no user name or password") as refused:
        row("http://me:secret@127.0.0.1:9/v1")
    assert "secret" not in str(refused.value)


async def test_the_problems_of_a_file_are_told_with_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "headgate.yaml"
    file.write_text("listen: {http: 127.0.0.1:0, grpc: 127.0.0.1:0}\nproviders:\n  lab: {kind: nonsense}\nmodles: {}\n")
    wrong = [check.text for check in await examine(file, tmp_path) if check.verdict == "wrong"]
    assert len(wrong) == 2
    assert wrong[0].startswith(f"{file}:3: providers.lab.kind")
    assert wrong[1].startswith(f"{file}:4: modles")


async def test_ports_are_free_taken_or_served_by_headgate() -> None:
    assert (await port_check("HTTP", Address("127.0.0.1", 0), may_move=False)).verdict == "ok"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        assert (await port_check("HTTP", address, may_move=False)).verdict == "wrong"
        assert (await port_check("HTTP", address, may_move=True)).verdict == "note"
        assert (await port_check("gRPC", address, may_move=False)).verdict == "wrong"
    async with running(Config()) as gateway:
        for what, text in (("HTTP", gateway.http_url.removeprefix("http://")), ("gRPC", gateway.grpc_address)):
            check = await port_check(what, Address.parse(text, what), may_move=False)
            assert (check.verdict, "(serving)" in check.text) == ("ok", True)


async def test_targets_that_are_left_alone_are_told() -> None:
    small = ModelConfig(
        targets=(TargetConfig(provider="echo", model="one"), TargetConfig(provider="echo", model="two"))
    )
    async with running(Config(models={"small": small})) as gateway:
        address = Address.parse(gateway.http_url.removeprefix("http://"), "HTTP")
        route = gateway.core.board.made_route("small", (Target("echo", "one"), Target("echo", "two")))
        check = await circuits_check(address)
        assert check is not None
        assert (check.verdict, check.text) == ("ok", "all are closed")
        for _ in range(5):
            route.places[1].state.circuit.failed(gateway.core.board.clock())
        check = await circuits_check(address)
        assert check is not None
        assert (check.verdict, check.text) == ("note", "echo/two open")
    assert await circuits_check(address) is None


async def test_a_clock_that_is_off_is_told(upstream: Upstream) -> None:
    late = formatdate(usegmt=True).replace(":", ":")  # the form of a Date header
    assert abs(clock_offset({"date": late}) or 99) < 30
    assert clock_offset({}) is None
    assert clock_offset({"date": "yesterday"}) is None
    assert clock_check([]).verdict == "note"
    assert clock_check([0.5, -0.5, 900]).verdict == "ok"
    assert "is 300 s slow" in clock_check([300]).text
    assert "is 300 s fast" in clock_check([-300]).text
    upstream.script(answer([b"{}"], headers={"date": "Thu, 01 Jan 2026 00:00:00 GMT"}))
    provider = ProviderCheck("lab", row(upstream.base_url), "")
    await provider.run()
    assert provider.clock_offset is not None


def test_the_place_of_a_key_is_its_line_and_variable(tmp_path: Path) -> None:
    file = tmp_path / "headgate.yaml"
    file.write_text(
        "providers:\n"
        "  a: {kind: openai, base_url: http://a, api_key: ${A_KEY}}\n"
        "  b:\n"
        "    kind: openai\n"
        "    api_key: plain\n"
        "  c: {kind: openai}\n"
    )
    assert key_place(file, "a") == f"{file}:2, variable A_KEY"
    assert key_place(file, "b") == f"{file}:5"
    assert key_place(file, "c") == f"{file}:6, where there is no api_key"
    assert key_place(file, "d") == f"{file}:1, where there is no api_key"


@pytest.mark.parametrize(
    ("platform", "environ", "directory"),
    [
        ("linux", {"HOME": "/home/me"}, "/home/me/.local/share/headgate"),
        ("linux", {"HOME": "/home/me", "XDG_DATA_HOME": "/data"}, "/data/headgate"),
        ("linux", {"HOME": "/home/me", "XDG_DATA_HOME": "relative"}, "/home/me/.local/share/headgate"),
        ("darwin", {"HOME": "/Users/me"}, "/Users/me/Library/Application Support/headgate"),
        ("win32", {"HOME": "/me", "LOCALAPPDATA": "/local"}, "/local/headgate"),
    ],
)
def test_the_data_directory_is_the_platforms(platform: str, environ: dict[str, str], directory: str) -> None:
    assert data_directory(None, environ, platform) == Path(directory)


def test_a_chosen_data_directory_is_taken() -> None:
    assert data_directory(Path("here"), {"HOME": "/home/me"}) == Path("here")
