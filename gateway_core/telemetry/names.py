"""The names of log fields, spans, attributes and metrics; nothing else defines one.

Those that begin with gen_ai, error, server and service are OpenTelemetry's, v1.41 of its semantic conventions
(https://opentelemetry.io/docs/specs/semconv/gen-ai/); the rest are Headgate's own.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

OK: Final = "ok"
CANCELLED: Final = "cancelled"
INTERRUPTED: Final = "interrupted"
INTERNAL: Final = "internal"
DEADLINE_EXCEEDED: Final = "deadline_exceeded"

UNKNOWN: Final = "_unknown"
"""Stands for a model that no provider is known to have."""
OTHER: Final = "_other"
"""Stands for what there is no more room for."""

SERVICE: Final = "headgate"
DIALECT_METADATA: Final = "x-headgate-dialect"
GRPC_DIALECT: Final = "grpc"
DIALECTS: Final = frozenset({GRPC_DIALECT, "openai", "ollama", "anthropic", "admin", "console"})
"""What a call can come by. A caller may write anything into the metadata, so that the rest counts as OTHER."""

CALL: Final = "call"
TIMESTAMP: Final = "timestamp"
LEVEL: Final = "level"
EVENT: Final = "event"
LOGGER: Final = "logger"
WORKER: Final = "worker"
EXCEPTION: Final = "exception"
REQUEST_ID: Final = "request_id"
OPERATION: Final = "operation"
DIALECT: Final = "dialect"
STREAM: Final = "stream"
REQUESTED_MODEL: Final = "requested_model"
PROVIDER: Final = "provider"
RESPONSE_MODEL: Final = "response_model"
STATUS: Final = "status"
MESSAGE: Final = "message"
DURATION_MS: Final = "duration_ms"
TIME_TO_FIRST_TOKEN_MS: Final = "time_to_first_token_ms"
INPUT_TOKENS: Final = "input_tokens"
OUTPUT_TOKENS: Final = "output_tokens"
CACHED_TOKENS: Final = "cached_tokens"
REASONING_TOKENS: Final = "reasoning_tokens"
FINISH_REASON: Final = "finish_reason"
ATTEMPTS: Final = "attempts"
FAILED_ATTEMPTS: Final = "failed_attempts"
REWRITES: Final = "rewrites"
CERTIFICATE: Final = "certificate"
CERTIFICATE_LABEL: Final = "headgate.certificate"
"""Among the names and values that the ledger keeps with a call."""

GEN_AI_OPERATION_NAME: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER_NAME: Final = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_REQUEST_STREAM: Final = "gen_ai.request.stream"
GEN_AI_RESPONSE_ID: Final = "gen_ai.response.id"
GEN_AI_RESPONSE_MODEL: Final = "gen_ai.response.model"
GEN_AI_RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
GEN_AI_USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
GEN_AI_TOKEN_TYPE: Final = "gen_ai.token.type"
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
SERVICE_NAME: Final = "service.name"
SERVICE_VERSION: Final = "service.version"
HEADGATE_REQUEST_ID: Final = "headgate.request_id"
HEADGATE_DIALECT: Final = "headgate.dialect"
HEADGATE_ATTEMPTS: Final = "headgate.attempts"
HEADGATE_ATTEMPT: Final = "headgate.attempt"
HEADGATE_REWRITES: Final = "headgate.rewrites"

REQUEST_PARAMETERS: Final = {
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_tokens": "gen_ai.request.max_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "seed": "gen_ai.request.seed",
    "n": "gen_ai.request.choice.count",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "stop": "gen_ai.request.stop_sequences",
}
"""Attributes of a span, by the field of a request that they repeat. None of them is content."""


class Instrument(NamedTuple):
    """A metric: its name, what it tells, its attributes and, for a histogram, its unit and its upper bounds."""

    name: str
    description: str
    attributes: tuple[str, ...] = ()
    unit: str = ""
    buckets: tuple[float, ...] = ()

    @property
    def prometheus_name(self) -> str:
        """The name as Prometheus takes it, with the unit: "gen_ai_server_request_duration_seconds"."""
        return prometheus(self.name) + {"s": "_seconds"}.get(self.unit, "")

    @property
    def labels(self) -> tuple[str, ...]:
        """The attributes as Prometheus takes them."""
        return tuple(prometheus(attribute) for attribute in self.attributes)


def prometheus(name: str) -> str:
    """A name of OpenTelemetry's as Prometheus takes it."""
    return name.replace(".", "_")


_CALLED = (
    GEN_AI_OPERATION_NAME,
    GEN_AI_PROVIDER_NAME,
    GEN_AI_REQUEST_MODEL,
    GEN_AI_RESPONSE_MODEL,
)
_DURATIONS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_FIRST_TOKEN = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_OUTPUT_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)

SERVER_REQUEST_DURATION: Final = Instrument(
    "gen_ai.server.request.duration",
    "How long calls took, to the last event.",
    (*_CALLED, ERROR_TYPE),
    "s",
    _DURATIONS,
)
SERVER_TIME_TO_FIRST_TOKEN: Final = Instrument(
    "gen_ai.server.time_to_first_token",
    "How long the first event of streamed calls that ended well took.",
    _CALLED,
    "s",
    _FIRST_TOKEN,
)
SERVER_TIME_PER_OUTPUT_TOKEN: Final = Instrument(
    "gen_ai.server.time_per_output_token",
    "How long each token after the first took, in streamed calls that ended well.",
    _CALLED,
    "s",
    _OUTPUT_TOKEN,
)
CLIENT_OPERATION_DURATION: Final = Instrument(
    "gen_ai.client.operation.duration",
    "How long attempts at providers took.",
    (*_CALLED, ERROR_TYPE),
    "s",
    _DURATIONS,
)
CLIENT_TOKEN_USAGE: Final = Instrument(
    "gen_ai.client.token.usage",
    "How many tokens providers said that attempts used.",
    (*_CALLED, GEN_AI_TOKEN_TYPE),
    "{token}",
    tuple(4**power for power in range(14)),  # whole, as tokens are: to compare them with a float costs more
)
CALLS_IN_FLIGHT: Final = Instrument("headgate.calls_in_flight", "Calls that have not ended.")
STREAMS_KEPT: Final = Instrument("headgate.streams_kept", "Streams that can be continued, running or over.")
CALLS_QUEUED: Final = Instrument("headgate.calls_queued", "Calls that wait for others of their key to end.")
LIMITS_STORE_UP: Final = Instrument(
    "headgate.limits_store.up", "Whether processes share limits by redis_url: 1, or 0 while each goes on by itself."
)
DATABASE_UP: Final = Instrument(
    "headgate.database.up", "Whether the database answers: 1, or 0 while this process cannot hear it."
)
LEDGER_WAITING: Final = Instrument(
    "headgate.ledger.waiting", "Calls that have ended and are not in the database yet, of about 1 KB in the journal."
)
REDIS_UP: Final = Instrument(
    "headgate.redis.up",
    "Whether processes share circuits and streams by redis_url: 1, or 0 while each goes on by itself.",
    ("of",),
)
CALLS: Final = Instrument("headgate.calls", "Calls that ended.", (OPERATION, DIALECT, STATUS))
ATTEMPTS_MADE: Final = Instrument("headgate.attempts", "Attempts at providers that ended.", (PROVIDER, "outcome"))
REWRITES_MADE: Final = Instrument(
    "headgate.rewrites", "Parameters that were dropped or changed on their way to a provider.", (PROVIDER,)
)
CIRCUIT_STATE: Final = Instrument(
    "headgate.circuit.state",
    "Whether calls go to a target: 0 closed, they do; 1 half open, one tries; 2 open, they do not.",
    (GEN_AI_PROVIDER_NAME, GEN_AI_REQUEST_MODEL),
)
PROVIDER_ALARMS: Final = Instrument(
    "headgate.provider.alarms",
    "Attempts that a provider refused for what the operator must mend: its key, its bill.",
    (PROVIDER, "reason"),
)
HEDGES: Final = Instrument(
    "headgate.hedges",
    "Second attempts that were begun beside a slow first one, and what became of them.",
    (PROVIDER, "outcome"),
)
RETRY_BUDGET_LEFT: Final = Instrument("headgate.retry_budget.left", "Attempts that may be made beyond one for a call.")
RETRIES_REFUSED: Final = Instrument("headgate.retries_refused", "Attempts that the retry budget did not allow.")
REFUSED_EARLY: Final = Instrument(
    "headgate.refused_early",
    "Requests that a proxy was told to refuse, before they came here.",
    ("service", "reason"),
)
WEBHOOKS: Final = Instrument("headgate.webhooks", "Attempts to send webhooks that ended.", ("outcome",))
BUILD: Final = Instrument("headgate.build", "What is running.")


def known_dialect(metadata: Mapping[str, str]) -> str:
    """What a call came by, as its metadata tell; callers may write there what they like."""
    dialect = metadata.get(DIALECT_METADATA, GRPC_DIALECT)
    return dialect if dialect in DIALECTS else OTHER
