"""Traces over OTLP: a server span for each call, a client span for each attempt. Only `tracing` loads this module."""

import asyncio
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message
from opentelemetry import propagate, trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.util.types import AttributeValue

from gateway_core.call import Call, Target
from gateway_core.telemetry import names
from gateway_core.telemetry.record import AttemptRecord, CallRecord
from gateway_core.telemetry.tracing import Address
from gateway_core.tokens import Tokens

Attributes = dict[str, AttributeValue]

FLUSH_SECONDS = 5.0
"""How long the end of the server waits for the collector before it stops trying again."""


class Tracer:
    """Sends spans to the collector that the environment names, from a thread of its own."""

    def __init__(self, version: str, addresses: Mapping[str, Address]) -> None:
        """Takes the version that runs and the providers' addresses; all else stands in OTEL_* variables."""
        self._addresses = addresses
        self._exporter = OTLPSpanExporter()
        self._provider = TracerProvider(resource=resource(version), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer(names.SERVICE, version)

    def begin(self, call: Call[Any]) -> "CallSpan":
        """Begins the span of a call, below the caller's where the metadata tell of one."""
        parent = propagate.extract(call.metadata, context=Context())
        span = self._tracer.start_span(call.operation.name, parent, SpanKind.SERVER)
        return CallSpan(self._tracer, span, self._addresses)

    async def close(self) -> None:
        """Sends what has not been sent."""
        sending = asyncio.create_task(asyncio.to_thread(self._provider.shutdown))
        await asyncio.wait({sending}, timeout=FLUSH_SECONDS)
        if not sending.done():
            self._exporter.shutdown()  # type: ignore[no-untyped-call]  # ends the waits between its attempts
        await sending


class CallSpan:
    """The server span of a call."""

    def __init__(self, tracer: trace.Tracer, span: Span, addresses: Mapping[str, Address]) -> None:
        """Takes the span, begun."""
        self._tracer = tracer
        self._span = span
        self._addresses = addresses

    def attempt(self, call: Call[Any], target: Target) -> "AttemptSpan":
        """Begins the client span of an attempt."""
        span = self._tracer.start_span(
            f"{call.operation.name} {target.model}", trace.set_span_in_context(self._span, Context()), SpanKind.CLIENT
        )
        return AttemptSpan(span, self._addresses.get(target.provider))

    def end(self, record: CallRecord) -> None:
        """Ends the span."""
        if self._span.is_recording():
            if record.call.targets:  # else the model is whatever the caller wrote, and no name for a span
                self._span.update_name(f"{record.call.operation.name} {record.call.model}")
            self._span.set_attributes(call_attributes(record))
            set_failure(self._span, record.status, record.error)
        self._span.end()


class AttemptSpan:
    """The client span of an attempt."""

    def __init__(self, span: Span, address: Address | None) -> None:
        """Takes the span, begun, and where the provider is."""
        self._span = span
        self._address = address

    def end(self, record: AttemptRecord) -> None:
        """Ends the span."""
        if self._span.is_recording():
            self._span.set_attributes(attempt_attributes(record, self._address))
            set_failure(self._span, record.status, record.error)
        self._span.end()


def resource(version: str) -> Resource:
    """What sends the spans: Headgate, or what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say."""
    told = Resource.create()
    is_named = not str(told.attributes[names.SERVICE_NAME]).startswith("unknown_service")
    if is_named:
        return told
    return told.merge(Resource({names.SERVICE_NAME: names.SERVICE, names.SERVICE_VERSION: version}))


def set_failure(span: Span, status: str, error: BaseException | None) -> None:
    """Marks a span as failed; one that the caller cancelled is not an error, but has its type."""
    if status == names.OK:
        return
    span.set_attribute(names.ERROR_TYPE, status)
    if status != names.CANCELLED:
        span.set_status(StatusCode.ERROR, str(getattr(error, "message", "")))


def call_attributes(record: CallRecord) -> Attributes:
    """Attributes of a call's span."""
    call = record.call
    return {
        names.GEN_AI_OPERATION_NAME: call.operation.name,
        names.GEN_AI_REQUEST_MODEL: call.model,
        names.GEN_AI_REQUEST_STREAM: call.stream,
        names.HEADGATE_REQUEST_ID: call.request_id,
        names.HEADGATE_DIALECT: record.dialect,
        names.HEADGATE_ATTEMPTS: call.attempt_count,
        names.HEADGATE_REWRITES: [rewrite.name for rewrite in call.rewrites],
        **({names.GEN_AI_PROVIDER_NAME: record.provider} if record.provider else {}),
        **answer_attributes(record, since=record.started),
    }


def attempt_attributes(record: AttemptRecord, address: Address | None) -> Attributes:
    """Attributes of an attempt's span."""
    call, target = record.call, record.target
    where: Attributes = {}
    if address is not None:
        where = {names.SERVER_ADDRESS: address.host}
        if address.port is not None:
            where[names.SERVER_PORT] = address.port
    return {
        **request_attributes(call.request),
        names.GEN_AI_OPERATION_NAME: call.operation.name,
        names.GEN_AI_PROVIDER_NAME: target.provider,
        names.GEN_AI_REQUEST_MODEL: target.model,
        names.GEN_AI_REQUEST_STREAM: call.stream,
        names.HEADGATE_ATTEMPT: record.number,
        **where,
        **(answer_attributes(record.answer, since=record.started) if record.answer is not None else {}),
    }


def request_attributes(request: object) -> Attributes:
    """The parameters of a request that the conventions name."""
    if not isinstance(request, Message):
        return {}
    attributes: Attributes = {}
    for field, value in request.ListFields():
        attribute = names.REQUEST_PARAMETERS.get(field.name)
        if attribute is not None:
            attributes[attribute] = list(value) if field.is_repeated else value
    return attributes


def answer_attributes(record: CallRecord, since: float) -> Attributes:
    """What an answer tells of itself; `since`: when it was asked for, on the clock of the record."""
    attributes: Attributes = usage_attributes(record.usage) if record.usage is not None else {}
    if record.response_model:
        attributes[names.GEN_AI_RESPONSE_MODEL] = record.response_model
    if record.response_id:
        attributes[names.GEN_AI_RESPONSE_ID] = record.response_id
    if record.finish_reasons:
        attributes[names.GEN_AI_RESPONSE_FINISH_REASONS] = [
            reason for _, reason in sorted(record.finish_reasons.items())
        ]
    if record.first_event_at is not None and record.call.stream:
        attributes[names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] = record.first_event_at - since
    return attributes


def usage_attributes(usage: Tokens) -> Attributes:
    """The tokens that a provider told of."""
    told = {
        names.GEN_AI_USAGE_INPUT_TOKENS: usage.prompt,
        names.GEN_AI_USAGE_OUTPUT_TOKENS: usage.completion,
        names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: usage.cached,
        names.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS: usage.cache_write,
        names.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: usage.reasoning,
    }
    return {name: count for name, count in told.items() if count is not None}
