import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from headgate.v1.chat_pb2 import ChatCompletionSpec

from gateway_core.config import Config
from gateway_core.known.hosts import LocalServer, known_hosts
from headgate_cli.address import Address
from headgate_cli.discovery import Findings, discover, is_base_url, place
from tests.support.gateway import running
from tests.support.upstream import Answer, Received, Silence, Upstream, answer, json_answer, refusing

OLLAMA = next(server for server in known_hosts().local if server.name == "ollama")


@pytest.fixture
async def another() -> AsyncIterator[Upstream]:
    async with Upstream() as scripted:
        yield scripted


def at(server: str, port: int) -> LocalServer:
    """A row of the table, on the port of a scripted server."""
    row = next(row for row in known_hosts().local if row.name == server)
    return row.model_copy(update={"port": port})


def listing(*ids: str, owned_by: str = "library") -> dict[str, Any]:
    return {"object": "list", "data": [{"id": name, "object": "model", "owned_by": owned_by} for name in ids]}


def paths(**answers: Answer) -> Callable[[Received], Answer]:
    """Answers by the last part of the path; "root" is "/"."""
    return lambda received: answers.get(received.path.rpartition("/")[2] or "root", json_answer({}, 404))


async def found(*local: LocalServer, environ: dict[str, str] | None = None, within: float = 5) -> Findings:
    return await discover(environ or {}, [], local, within=within)


OPEN = [host for host in known_hosts().hosts if host.ended is None and host.base_url is not None and host.is_looked_for]


@pytest.mark.parametrize("host", OPEN, ids=lambda host: host.name)
async def test_a_key_makes_a_known_host_a_provider(host: Any) -> None:
    for variable in host.key_variables:
        findings = await found(environ={variable: " sk-secret\n"})
        (one,) = findings.found
        assert (one.name, one.origin) == (host.name, f"from {variable}")
        row = findings.config().providers[host.name]
        assert (row.kind, row.base_url) == (host.kind, host.base_url)
        assert row.api_key is not None
        assert row.api_key.get_secret_value() == "sk-secret"
        assert row.unsupported_parameters == host.unsupported_parameters
        assert "secret" not in repr(findings)


@pytest.mark.parametrize("row", [*known_hosts().hosts, *known_hosts().local], ids=lambda row: row.name)
def test_the_table_names_parameters_of_the_contract_and_tells_where_it_read(row: Any) -> None:
    # "thinking" is no field of the contract: SDKs of some vendors send it all the same, and it is carried.
    assert row.unsupported_parameters <= {*ChatCompletionSpec.DESCRIPTOR.fields_by_name, "thinking"}
    assert row.source.startswith("https://")


def test_the_table_has_no_name_and_no_port_twice() -> None:
    table = known_hosts()
    names = [row.name for row in (*table.hosts, *table.local)]
    ports = [server.port for server in table.local]
    assert len(set(names)) == len(names)
    assert len(set(ports)) == len(ports)
    urls = [host.base_url for host in table.hosts if host.base_url is not None]
    assert all(url.startswith("https://") and not url.endswith("/") for url in urls)


@pytest.mark.parametrize("host", [host for host in known_hosts().hosts if host.ended], ids=lambda host: host.name)
async def test_the_key_of_a_host_that_has_ended_makes_no_provider(host: Any) -> None:
    assert (await found(environ=dict.fromkeys(host.key_variables, "sk-secret"))).found == ()


@pytest.mark.parametrize("endpoint", ["https://r.openai.azure.com/", "https://r.openai.azure.com/openai/v1"])
async def test_azure_is_asked_at_everybodys_own_address(endpoint: str) -> None:
    findings = await found(environ={"AZURE_OPENAI_API_KEY": "a", "AZURE_OPENAI_ENDPOINT": endpoint})
    (one,) = findings.found
    assert one.origin == "from AZURE_OPENAI_API_KEY and AZURE_OPENAI_ENDPOINT"
    assert one.row.base_url == "https://r.openai.azure.com/openai/v1"
    assert one.row.quirks.key_header == "api-key"


async def test_azures_key_alone_is_not_enough() -> None:
    findings = await found(environ={"AZURE_OPENAI_API_KEY": "a"})
    assert findings.found == ()
    assert findings.notes == ("AZURE_OPENAI_API_KEY is set, and AZURE_OPENAI_ENDPOINT is not: azure is left out",)


async def test_geminis_key_makes_one_provider_that_speaks_its_own_api() -> None:
    (one,) = (await found(environ={"GEMINI_API_KEY": "a"})).found
    assert (one.name, one.row.kind) == ("gemini", "gemini")
    assert one.row.base_url == "https://generativelanguage.googleapis.com/v1beta"


async def test_an_empty_key_is_none() -> None:
    assert (await found(environ={"OPENAI_API_KEY": " "})).found == ()


async def test_of_two_variables_the_first_counts() -> None:
    findings = await found(environ={"GOOGLE_API_KEY": "b", "GEMINI_API_KEY": "a"})
    assert [one.origin for one in findings.found] == ["from GEMINI_API_KEY"]


async def test_openai_is_asked_where_the_environment_says() -> None:
    findings = await found(environ={"OPENAI_API_KEY": "a", "OPENAI_BASE_URL": "https://eu.example/v1/"})
    (one,) = findings.found
    assert one.row.base_url == "https://eu.example/v1"
    # What the table knows of OpenAI's own host says nothing of another one.
    assert one.row.unsupported_parameters == frozenset()


async def test_a_base_url_that_leads_back_to_headgate_is_not_followed() -> None:
    environ = {"OPENAI_API_KEY": "a", "OPENAI_BASE_URL": "http://localhost:8080/v1"}
    findings = await discover(environ, [Address("0.0.0.0", 8080)], [])
    assert [one.row.base_url for one in findings.found] == ["https://api.openai.com/v1"]
    assert "OPENAI_BASE_URL is Headgate's own address" in findings.notes[0]


@pytest.mark.parametrize("url", ["nonsense", "ftp://a/v1", "http://", "http://me:pw@a/v1", "http://a:99999/v1"])
async def test_a_base_url_that_is_none_is_told_without_showing_it(url: str) -> None:
    assert not is_base_url(url)
    findings = await found(environ={"OPENAI_API_KEY": "a", "OPENAI_BASE_URL": url})
    assert findings.found == ()
    assert findings.notes == ("OPENAI_BASE_URL is no http(s):// URL of a host: openai is left out",)


@pytest.mark.parametrize(("server", "owned_by"), [("vllm", "vllm"), ("llamacpp", "llamacpp"), ("sglang", "sglang")])
async def test_a_server_is_told_by_the_owner_of_its_models(upstream: Upstream, server: str, owned_by: str) -> None:
    upstream.script(paths(models=json_answer(listing("tiny", owned_by=owned_by))))
    # On whatever port of the table it answers.
    findings = await found(at("lmstudio", upstream.port), at(server, 1))
    (one,) = findings.found
    assert (one.name, one.models) == (server, ("tiny",))
    assert one.origin == f"answers at 127.0.0.1:{upstream.port}, 1 model"
    assert one.row.base_url == upstream.base_url


async def test_ollama_is_told_by_its_greeting(upstream: Upstream) -> None:
    greeting = answer([b"Ollama is running"], headers={"content-type": "text/plain"})
    upstream.script(paths(models=json_answer(listing("llama3.2", "qwen3")), root=greeting))
    findings = await found(at("ollama", upstream.port))
    (one,) = findings.found
    assert one.name == "ollama"
    assert one.origin.endswith("2 models")
    assert (one.row.kind, one.row.base_url) == ("ollama", upstream.base_url.removesuffix("/v1"))


async def test_ollama_without_models_is_found(upstream: Upstream) -> None:
    greeting = answer([b"Ollama is running"])
    upstream.script(paths(models=json_answer({"object": "list", "data": None}), root=greeting))
    findings = await found(at("ollama", upstream.port))
    assert [one.origin for one in findings.found] == [f"answers at 127.0.0.1:{upstream.port}, 0 models"]
    assert findings.model() is None


async def test_an_unknown_server_is_named_after_its_port(upstream: Upstream) -> None:
    upstream.script(paths(models=json_answer(listing("embedder-embed", "tiny", owned_by="me"))))
    findings = await found(at("vllm", upstream.port))
    assert [one.name for one in findings.found] == [f"local-{upstream.port}"]
    assert findings.model() == f"local-{upstream.port}/tiny"


async def test_two_servers_of_a_kind_have_two_names(upstream: Upstream, another: Upstream) -> None:
    for server in (upstream, another):
        server.script(paths(models=json_answer(listing("tiny", owned_by="vllm"))))
    findings = await found(at("vllm", upstream.port), at("llamacpp", another.port))
    assert [one.name for one in findings.found] == ["vllm", f"vllm-{another.port}"]
    assert set(findings.config().providers) == {"vllm", f"vllm-{another.port}"}


async def test_headgate_is_not_taken_for_a_provider() -> None:
    async with running(Config()) as gateway:
        findings = await found(at("llamacpp", gateway.port))
    assert findings.found == ()
    assert findings.notes == (f"127.0.0.1:{gateway.port} is another Headgate: it is not taken for a provider",)


@pytest.mark.parametrize(
    "reply",
    [
        json_answer({"hello": "world"}),
        json_answer([1, 2]),
        json_answer({"object": "list", "data": [{"name": "no id"}]}),
        json_answer({"object": "list", "data": "tiny"}),
        json_answer({"error": "no such path"}, 404),
        answer([b"<html>"], headers={"content-type": "text/html"}),
        answer([b"\xff\xfe"]),
        [b"SSH-2.0-OpenSSH_9.6\r\n"],
    ],
    ids=range(8),
)
async def test_what_is_no_model_server_is_passed_over(upstream: Upstream, reply: Answer) -> None:
    upstream.script(reply)
    assert await found(at("vllm", upstream.port), within=1) == Findings(())


async def test_a_server_that_wants_a_key_is_mentioned(upstream: Upstream) -> None:
    upstream.script(json_answer({"error": "Unauthorized"}, 401))
    findings = await found(at("vllm", upstream.port))
    assert findings.found == ()
    assert f"127.0.0.1:{upstream.port} wants a key" in findings.notes[0]


async def test_a_silent_server_delays_nobody(upstream: Upstream, another: Upstream) -> None:
    upstream.script([Silence()])
    another.script(paths(models=json_answer(listing("tiny", owned_by="vllm"))))
    with refusing() as url:
        dead = at("sglang", int(url.split(":")[2].split("/")[0]))
        async with asyncio.timeout(5):
            findings = await found(at("llamacpp", upstream.port), dead, at("vllm", another.port), within=0.5)
    assert [one.name for one in findings.found] == ["vllm"]
    await asyncio.wait_for(upstream.connections[0].closed.wait(), 5)


@pytest.mark.parametrize(
    ("variable", "origin"),
    [
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:1234", "http://127.0.0.1:1234"),
        (":1234", "http://127.0.0.1:1234"),
        ('"gpu.lan"', "http://gpu.lan:11434"),
        ("http://gpu.lan", "http://gpu.lan:80"),
        ("https://gpu.lan/", "https://gpu.lan:443"),
        ("http://gpu.lan:8000", "http://gpu.lan:8000"),
        ("[::]:1234", "http://[::1]:1234"),
        ("gpu.lan:nonsense", "http://127.0.0.1:11434"),
    ],
)
def test_ollama_is_looked_for_where_its_variable_says(variable: str, origin: str) -> None:
    assert place(OLLAMA, {"OLLAMA_HOST": variable}).origin == origin


async def test_an_ollama_elsewhere_is_believed_unasked() -> None:
    findings = await found(OLLAMA, environ={"OLLAMA_HOST": "https://gpu.example"})
    (one,) = findings.found
    assert (one.name, one.origin) == ("ollama", "from OLLAMA_HOST")
    assert (one.row.kind, one.row.base_url) == ("ollama", "https://gpu.example:443")


async def test_local_servers_are_asked_at_the_same_time() -> None:
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(Upstream()) for _ in range(3)]
        for server in servers:
            server.script([Silence()])
        looking = asyncio.create_task(found(*(at("vllm", server.port) for server in servers), within=2))
        for server in servers:
            await server.received(within=1.5)
        assert (await looking).found == ()
