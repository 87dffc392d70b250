"""Traces, as a collector receives them."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from gateway_core.call import Target
from gateway_core.config import Config
from gateway_core.errors import Internal, ModelNotFound, ProviderTimeout
from gateway_core.pipeline.trace import Stage
from gateway_core.telemetry import Telemetry, otlp
from gateway_core.telemetry.tracing import NoTracer, wants_traces
from tests.gateway_core.telemetry.calls import LAB, attempting, finish, new_call, opens, refuses, text
from tests.gateway_core.telemetry.collector import Collector, Value, running_collector, values
from tests.gateway_core.telemetry.conftest import Log

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SERVER, CLIENT = Span.SpanKind.SPAN_KIND_SERVER, Span.SpanKind.SPAN_KIND_CLIENT
CONFIG = Config.model_validate(
    {
        "providers": {
            "lab": {"kind": "openai", "base_url": "http://lab.test:9000/v1?key=secret"},
            "dead": {"kind": "openai", "base_url": "https://dead.test/v1"},
        }
    }
)
DEAD = Target("dead", "tiny")
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch, log: Log) -> Iterator[Collector]:
    with running_collector() as collector:
        monkeypatch.setenv(ENDPOINT, collector.url)
        yield collector


def attributes(span: Span) -> dict[str, Value]:
    return values(span.attributes)


async def read(telemetry: Telemetry, *attempts: object, **metadata: str) -> None:
    events = await Stage(telemetry)(new_call(metadata=metadata), attempting(telemetry, *attempts))  # type: ignore[arg-type]
    async for _ in events:
        pass


async def test_a_call_is_a_server_span_below_the_callers_and_its_attempt_a_client_span_below_that(
    collector: Collector,
) -> None:
    telemetry = Telemetry(CONFIG)
    await read(telemetry, (LAB, opens([text("Hi"), finish()])), traceparent=TRACEPARENT)
    await telemetry.close()
    (server,), (client,) = collector.named(SERVER), collector.named(CLIENT)
    assert server.trace_id == client.trace_id == bytes.fromhex("0af7651916cd43dd8448eb211c80319c")
    assert server.parent_span_id == bytes.fromhex("b7ad6b7169203331")
    assert client.parent_span_id == server.span_id
    assert (server.name, client.name) == ("chat small", "chat tiny")
    assert server.start_time_unix_nano <= client.start_time_unix_nano
    assert client.end_time_unix_nano <= server.end_time_unix_nano
    assert server.status.code == client.status.code == Status.STATUS_CODE_UNSET


async def test_a_client_span_has_the_attributes_of_the_conventions_and_nothing_secret(collector: Collector) -> None:
    telemetry = Telemetry(CONFIG)
    await read(telemetry, (LAB, opens([text("Hi"), finish()])))
    await telemetry.close()
    (client,) = collector.named(CLIENT)
    told = attributes(client)
    first_chunk = told.pop("gen_ai.response.time_to_first_chunk")
    assert isinstance(first_chunk, float)
    assert 0 < first_chunk < 60
    assert told == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "lab",
        "gen_ai.request.model": "tiny",
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 64,
        "gen_ai.request.stop_sequences": ["END"],
        "gen_ai.response.id": "answer-1",
        "gen_ai.response.model": "tiny-2026",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 2,
        "server.address": "lab.test",
        "server.port": 9000,
        "headgate.attempt": 1,
    }
    assert not any(b"secret" in request.SerializeToString() for request in collector.requests)


async def test_a_server_span_tells_what_was_asked_and_who_answered(collector: Collector) -> None:
    telemetry = Telemetry(CONFIG)
    await read(telemetry, (LAB, opens([text("Hi"), finish()])), **{"x-headgate-dialect": "openai"})
    await telemetry.close()
    (server,) = collector.named(SERVER)
    assert not server.parent_span_id
    assert {
        "gen_ai.request.model": "small",
        "gen_ai.response.model": "tiny-2026",
        "gen_ai.provider.name": "lab",
        "headgate.request_id": "call-1",
        "headgate.dialect": "openai",
        "headgate.attempts": 1,
    }.items() <= attributes(server).items()
    assert collector.resource["service.name"] == "headgate"


async def test_each_attempt_is_a_span_and_a_failed_one_says_why(collector: Collector) -> None:
    telemetry = Telemetry(CONFIG)
    silent = ProviderTimeout("dead was silent.", provider="dead", phase="connect")
    await read(telemetry, (DEAD, refuses(silent)), (LAB, opens([finish()])))
    await telemetry.close()
    (server,), (failed, answered) = collector.named(SERVER), collector.named(CLIENT)
    assert failed.parent_span_id == answered.parent_span_id == server.span_id
    assert (failed.status.code, failed.status.message) == (Status.STATUS_CODE_ERROR, "dead was silent.")
    assert attributes(failed)["error.type"] == "provider_timeout"
    assert attributes(failed)["server.address"] == "dead.test"
    assert "server.port" not in attributes(failed)
    assert "gen_ai.usage.input_tokens" not in attributes(failed)
    assert "error.type" not in attributes(answered)
    assert attributes(answered)["headgate.attempt"] == 2
    assert server.status.code == Status.STATUS_CODE_UNSET


async def test_a_stream_that_breaks_fails_both_spans(collector: Collector) -> None:
    telemetry = Telemetry(CONFIG)
    broken = ProviderTimeout("lab was silent.", provider="lab", phase="idle")
    with pytest.raises(ProviderTimeout):
        await read(telemetry, (LAB, opens([text("Hi")], then=broken)))
    await telemetry.close()
    assert len(collector.spans) == 2
    for span in collector.spans:
        assert span.status.code == Status.STATUS_CODE_ERROR
        assert attributes(span)["error.type"] == "provider_timeout"
        assert attributes(span)["gen_ai.response.model"] == "tiny-2026"


async def test_a_caller_who_leaves_is_no_error(collector: Collector) -> None:
    telemetry = Telemetry(CONFIG)
    events = await Stage(telemetry)(new_call(), attempting(telemetry, (LAB, opens([text("a"), text("b")]))))
    await anext(events)
    await events.aclose()
    await telemetry.close()
    assert [attributes(span)["error.type"] for span in collector.spans] == ["cancelled"] * 2
    assert {span.status.code for span in collector.spans} == {Status.STATUS_CODE_UNSET}


async def test_a_model_that_does_not_exist_is_no_name_of_a_span(collector: Collector) -> None:
    telemetry = Telemetry(CONFIG)
    with pytest.raises(ModelNotFound):
        await Stage(telemetry)(new_call("invented"), refuses(ModelNotFound("None.", param="model", model="invented")))
    await telemetry.close()
    (span,) = collector.spans
    assert span.name == "chat"


async def test_a_fault_of_ours_does_not_show_its_message(collector: Collector) -> None:
    telemetry = Telemetry(CONFIG)
    with pytest.raises(Internal):
        await Stage(telemetry)(new_call(), refuses(KeyError("secret")))
    await telemetry.close()
    (span,) = collector.spans
    assert (span.status.code, span.status.message) == (Status.STATUS_CODE_ERROR, "")


async def test_the_callers_decision_not_to_sample_is_kept(collector: Collector) -> None:
    telemetry = Telemetry(CONFIG)
    await read(telemetry, (LAB, opens([finish()])), traceparent=TRACEPARENT[:-1] + "0")
    await telemetry.close()
    assert not collector.requests


async def test_a_traceparent_that_makes_no_sense_begins_a_new_trace(collector: Collector) -> None:
    telemetry = Telemetry(CONFIG)
    await read(telemetry, (LAB, opens([finish()])), traceparent="00-zz-zz-zz")
    await telemetry.close()
    assert not collector.named(SERVER)[0].parent_span_id


async def test_calls_at_the_same_time_keep_their_attempts_apart(collector: Collector) -> None:
    telemetry = Telemetry(CONFIG)
    await asyncio.gather(*(read(telemetry, (LAB, opens([text("a"), finish()]))) for _ in range(20)))
    await telemetry.close()
    servers = {span.span_id: span.trace_id for span in collector.named(SERVER)}
    clients = {span.parent_span_id: span.trace_id for span in collector.named(CLIENT)}
    assert len(servers) == 20
    assert servers == clients


async def test_the_service_is_named_as_the_environment_says(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "my-gateway")
    telemetry = Telemetry(CONFIG)
    await read(telemetry, (LAB, opens([finish()])))
    await telemetry.close()
    assert collector.resource["service.name"] == "my-gateway"


async def test_the_end_waits_for_a_failing_collector_for_a_while_and_does_not_block_the_loop(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    monkeypatch.setattr(otlp, "FLUSH_SECONDS", 0.05)
    collector.status = 503
    telemetry = Telemetry(CONFIG)
    await read(telemetry, (LAB, opens([finish()])))
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    async with asyncio.timeout(8):  # the exporter alone would try again for 10 s
        await telemetry.close()
    turning.cancel()
    assert turns > 10
    assert {line["level"] for line in log.lines if line.get("logger", "").startswith("opentelemetry")} >= {"warning"}


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({ENDPOINT: ""}, False),
        ({ENDPOINT: "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://collector:4318/v1/metrics"}, False),
        ({ENDPOINT: "http://collector:4318", "OTEL_SDK_DISABLED": "True"}, False),
        ({ENDPOINT: "http://collector:4318", "OTEL_SDK_DISABLED": "false"}, True),
        ({ENDPOINT: "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({ENDPOINT: "http://collector:4318", "OTEL_TRACES_EXPORTER": ""}, True),
        ({ENDPOINT: "http://collector:4318", "OTEL_TRACES_EXPORTER": "console, otlp"}, True),
        ({ENDPOINT: "http://collector:4318", "OTEL_TRACES_EXPORTER": "zipkin"}, False),
        ({ENDPOINT: "http://collector:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
        ({ENDPOINT: "http://collector:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False),
    ],
    ids=str,
)
def test_the_standard_variables_say_whether_there_are_traces(log: Log, environ: dict[str, str], wanted: bool) -> None:
    assert wants_traces(environ) is wanted


def test_a_protocol_that_is_not_spoken_is_told(log: Log) -> None:
    wants_traces({ENDPOINT: "http://collector:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})
    assert [line["level"] for line in log.lines] == ["warning"]


async def test_without_the_variables_nobody_traces(log: Log) -> None:
    telemetry = Telemetry(CONFIG, {})
    assert isinstance(telemetry._tracer, NoTracer)
    await read(telemetry, (LAB, opens([finish()])))
    await telemetry.close()


def test_a_server_without_traces_does_not_load_the_sdk() -> None:
    program = (
        "import sys; from gateway_core.config import Config; from gateway_core.telemetry import Telemetry;"
        "Telemetry(Config(), {}); sys.exit(any(name.split('.')[0] == 'opentelemetry' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
