"""A collector of traces on a loopback port: OTLP over HTTP, decoded."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

Value = str | bool | int | float | list[str]


class Collector:
    """What was received. With a status other than 200 nothing is."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.status = 200
        self.requests: list[ExportTraceServiceRequest] = []

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def resource(self) -> dict[str, Value]:
        return values(self.requests[0].resource_spans[0].resource.attributes)

    def named(self, kind: "Span.SpanKind.ValueType") -> list[Span]:
        return [span for span in self.spans if span.kind == kind]


def values(attributes: Iterable[KeyValue]) -> dict[str, Value]:
    """Attributes as Python has them."""
    return {pair.key: value(pair.value) for pair in attributes}


def value(any_value: AnyValue) -> Value:
    """A value as Python has it."""
    if any_value.HasField("array_value"):
        return [item.string_value for item in any_value.array_value.values]
    kind = any_value.WhichOneof("value")
    assert kind is not None
    found: Value = getattr(any_value, kind)
    return found


@contextmanager
def running_collector() -> Iterator[Collector]:
    """A collector that listens until the end of the block."""

    class Request(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/traces" and collector.status == 200:
                collector.requests.append(ExportTraceServiceRequest.FromString(body))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(collector.status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Request) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield collector
        server.shutdown()
        thread.join()
