"""Traces: whether the environment asks for them, and what stands in their place where it does not."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple, Protocol, cast

import structlog

from gateway_core.call import Call
from gateway_core.telemetry.record import NO_SPAN, CallSpan

PROTOCOL = "http/protobuf"


class Address(NamedTuple):
    """Where a provider's server is, without anything secret."""

    host: str
    port: int | None


class Tracer(Protocol):
    """Begins the spans of calls."""

    def begin(self, call: Call[Any]) -> CallSpan:
        """Begins the span of a call."""
        ...

    async def close(self) -> None:
        """Sends what has not been sent, as long as OTEL_EXPORTER_OTLP_TIMEOUT allows."""
        ...


class NoTracer:
    """The tracer that is not there."""

    def begin(self, call: Call[Any]) -> CallSpan:
        """No span."""
        return NO_SPAN

    async def close(self) -> None:
        """Does nothing."""


def tracer(environ: Mapping[str, str], version: str, addresses: Mapping[str, Address]) -> Tracer:
    """The tracer that the environment asks for; takes the addresses of the providers by name.

    The variables: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
    """
    if not wants_traces(environ):
        return NoTracer()
    # The one place that loads OpenTelemetry's SDK: with its exporter and their HTTP client it is 219 modules and 60 ms,
    # for which a server without traces has no use.
    otlp = import_module("gateway_core.telemetry.otlp")
    return cast(Tracer, otlp.Tracer(version, addresses))


def wants_traces(environ: Mapping[str, str]) -> bool:
    """Whether the standard variables ask for traces over OTLP; a variable that is empty counts as absent."""

    def value(*variables: str) -> str:
        return next((found for variable in variables if (found := environ.get(variable, "").strip())), "")

    if value("OTEL_SDK_DISABLED").lower() == "true":
        return False
    if not value("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        return False
    exporters = {exporter.strip() for exporter in (value("OTEL_TRACES_EXPORTER") or "otlp").split(",")}
    if "otlp" not in exporters:
        return False
    protocol = value("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL") or PROTOCOL
    if protocol != PROTOCOL:
        structlog.get_logger().warning("traces_off", message=f"OTLP is spoken over {PROTOCOL} only, not {protocol}.")
        return False
    return True
