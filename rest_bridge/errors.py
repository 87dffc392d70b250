"""Failure: why a request failed, read once for every dialect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Self

import structlog
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode, aio
from grpc_status import rpc_status

log = structlog.get_logger("headgate.bridge")

DOMAIN = "headgate.v1"

HTTP_OF_REASON: Mapping[str, int] = {
    "ERROR_REASON_INVALID_REQUEST": 400,
    "ERROR_REASON_UNSUPPORTED_PARAMETER": 400,
    "ERROR_REASON_PARAMETER_NOT_ALLOWED": 400,
    "ERROR_REASON_CONTEXT_TOO_LONG": 400,
    "ERROR_REASON_UNAUTHENTICATED": 401,
    "ERROR_REASON_KEY_EXPIRED": 401,
    "ERROR_REASON_INSUFFICIENT_BALANCE": 402,
    "ERROR_REASON_SPEND_CAP_REACHED": 402,
    "ERROR_REASON_PERMISSION_DENIED": 403,
    "ERROR_REASON_MODEL_NOT_ALLOWED": 403,
    "ERROR_REASON_MODEL_NOT_FOUND": 404,
    "ERROR_REASON_NOT_FOUND": 404,
    "ERROR_REASON_DEADLINE_EXCEEDED": 408,
    "ERROR_REASON_ALREADY_EXISTS": 409,
    "ERROR_REASON_CONFLICT": 409,
    "ERROR_REASON_STREAM_TAKEN_OVER": 409,
    "ERROR_REASON_CHUNKS_GONE": 410,
    "ERROR_REASON_TOO_LARGE": 413,
    "ERROR_REASON_RATE_LIMITED": 429,
    "ERROR_REASON_CONCURRENCY_LIMITED": 429,
    "ERROR_REASON_CANCELLED": 499,
    "ERROR_REASON_INTERNAL": 500,
    "ERROR_REASON_UNIMPLEMENTED": 501,
    "ERROR_REASON_PROVIDER_UNREACHABLE": 502,
    "ERROR_REASON_PROVIDER_BROKEN": 502,
    "ERROR_REASON_PROVIDER_UNAUTHORIZED": 502,
    "ERROR_REASON_SHUTTING_DOWN": 503,
    "ERROR_REASON_PROVIDER_TIMEOUT": 504,
}

HTTP_OF_CODE: Mapping[StatusCode, int] = {
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.FAILED_PRECONDITION: 400,
    StatusCode.OUT_OF_RANGE: 400,
    StatusCode.UNAUTHENTICATED: 401,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.NOT_FOUND: 404,
    StatusCode.DEADLINE_EXCEEDED: 408,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.ABORTED: 409,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.CANCELLED: 499,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.UNAVAILABLE: 503,
}

# gRPC itself writes these statuses, and its own words may name internal addresses.
SENTENCE_OF_CODE: Mapping[StatusCode, str] = {
    StatusCode.INVALID_ARGUMENT: "The request is invalid.",
    StatusCode.UNAUTHENTICATED: "The key is missing or unknown.",
    StatusCode.PERMISSION_DENIED: "The key may not do this.",
    StatusCode.NOT_FOUND: "There is no such thing.",
    StatusCode.DEADLINE_EXCEEDED: "The deadline of the request passed.",
    StatusCode.RESOURCE_EXHAUSTED: "There are too many calls; try again later.",
    StatusCode.CANCELLED: "The call was cancelled.",
    StatusCode.UNIMPLEMENTED: "Headgate does not do this.",
    StatusCode.UNAVAILABLE: "Headgate's core cannot be reached; try again later.",
}
# What gRPC itself ends a call with has a reason of the contract's where only one thing can have happened.
REASON_OF_CODE: Mapping[StatusCode, str] = {
    StatusCode.DEADLINE_EXCEEDED: "ERROR_REASON_DEADLINE_EXCEEDED",
    StatusCode.CANCELLED: "ERROR_REASON_CANCELLED",
}
# SDKs try 408 and 502 again by themselves. A caller's own deadline would then be passed several times, and a key that
# was refused once is refused again.
NOT_TO_BE_RETRIED = frozenset({"ERROR_REASON_PROVIDER_UNAUTHORIZED", "ERROR_REASON_DEADLINE_EXCEEDED"})
INTERNAL_SENTENCE = "Headgate failed; the log tells why, under the request id."


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request failed.

    `code` is gRPC's status, `reason` the full name of an ErrorReason ("" where none was told), `metadata` what the
    contract says beside the reason, `retry_after_seconds` how long to wait before another attempt (None: not told).
    """

    code: StatusCode
    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    retry_after_seconds: float | None = None
    own_http_status: int | None = None
    """The HTTP status of a failure that only HTTP knows (405, 415 …)."""

    @classmethod
    def of(cls, error: aio.AioRpcError) -> Self:
        """The failure that an RPC ended with. Words that no service of Headgate chose are replaced."""
        status = _rich_status(error)
        if status is not None:
            info, retry_after_seconds = _details(status)
            reason = info.reason if info.domain == DOMAIN else ""
            return cls(error.code(), reason, status.message, dict(info.metadata), retry_after_seconds)
        if error.code() is StatusCode.RESOURCE_EXHAUSTED and "larger than max" in (error.details() or ""):
            message = "The request or its answer is larger than a message may be."
            return cls(error.code(), "ERROR_REASON_TOO_LARGE", message)
        reason = REASON_OF_CODE.get(error.code(), "")
        return cls(error.code(), reason, SENTENCE_OF_CODE.get(error.code(), INTERNAL_SENTENCE))

    @classmethod
    def invalid(cls, message: str, param: str | None = None) -> Self:
        """A wrong request; `param` is the path of what is wrong, where one thing is."""
        metadata = {} if param is None else {"param": param}
        return cls(StatusCode.INVALID_ARGUMENT, "ERROR_REASON_INVALID_REQUEST", message, metadata)

    @classmethod
    def too_large(cls, limit: int) -> Self:
        """A body of more than `limit` bytes."""
        message = f"The request body is larger than {limit} bytes."
        return cls(StatusCode.RESOURCE_EXHAUSTED, "ERROR_REASON_TOO_LARGE", message, {"limit": str(limit)})

    @classmethod
    def slow_body(cls) -> Self:
        """A body that did not arrive in time."""
        message = "The request body did not arrive in time."
        return cls(StatusCode.DEADLINE_EXCEEDED, "ERROR_REASON_DEADLINE_EXCEEDED", message)

    @classmethod
    def deadline_exceeded(cls) -> Self:
        """The caller's own deadline passed before there was a call."""
        message = "The time that x-request-timeout gives passed before the request was complete."
        return cls(StatusCode.DEADLINE_EXCEEDED, "ERROR_REASON_DEADLINE_EXCEEDED", message)

    @classmethod
    def unsupported_encoding(cls) -> Self:
        """A body with a Content-Encoding."""
        message = "Compressed request bodies are not taken: send it without Content-Encoding."
        metadata = {"param": "content-encoding"}
        return cls(StatusCode.INVALID_ARGUMENT, "ERROR_REASON_INVALID_REQUEST", message, metadata, None, 415)

    @classmethod
    def route_not_found(cls, method: str, path: str) -> Self:
        """A path that no dialect has."""
        return cls(StatusCode.NOT_FOUND, "", f"There is no {method[:20]} {path[:200]}.", own_http_status=404)

    @classmethod
    def method_not_allowed(cls, method: str, allowed: Sequence[str]) -> Self:
        """A method that the path does not have; `allowed` are those it has."""
        names = ", ".join(allowed)
        message = f"{method[:20]} is not allowed here; allowed: {names}."
        return cls(StatusCode.UNIMPLEMENTED, "", message, {"allow": names}, own_http_status=405)

    @classmethod
    def client_left(cls) -> Self:
        """The caller left before the answer; nobody reads this but the log."""
        return cls(StatusCode.CANCELLED, "ERROR_REASON_CANCELLED", "The caller left.")

    @classmethod
    def shutting_down(cls, *, is_partial: bool) -> Self:
        """The server ends, and had no more time for the answer; takes whether that has begun."""
        message = "The server ends, and the call with it: its time to finish is over."
        metadata = {"partial": "true"} if is_partial else {}
        return cls(StatusCode.UNAVAILABLE, "ERROR_REASON_SHUTTING_DOWN", message, metadata)

    @classmethod
    def internal(cls) -> Self:
        """A fault of the bridge's own, which is in the log."""
        return cls(StatusCode.INTERNAL, "ERROR_REASON_INTERNAL", INTERNAL_SENTENCE)

    @property
    def http_status(self) -> int:
        """The HTTP status: the provider's own where it refused, else by reason, else by gRPC's code."""
        if self.own_http_status is not None:
            return self.own_http_status
        if self.reason == "ERROR_REASON_PROVIDER_REFUSED":
            digits = self.metadata.get("upstream_status", "")
            return (
                int(digits) if len(digits) == 3 and digits[0] in "45" and digits.isascii() and digits.isdigit() else 502
            )
        return HTTP_OF_REASON.get(self.reason) or HTTP_OF_CODE.get(self.code, 500)

    @property
    def param(self) -> str | None:
        """The path of what is wrong in the request, where one thing is."""
        return self.metadata.get("param") or None

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Header fields for the answer: Retry-After in whole seconds (RFC 9110, 10.2.3), Allow, x-should-retry.

        A limit that is reached is told as OpenAI does: x-ratelimit-{limit,remaining,reset}-{requests,tokens}.
        """
        headers = []
        if self.retry_after_seconds is not None:
            headers.append((b"retry-after", b"%d" % max(0, ceil(self.retry_after_seconds))))
        if self.own_http_status == 405:
            headers.append((b"allow", self.metadata["allow"].encode("ascii")))
        if self.reason == "ERROR_REASON_RATE_LIMITED":
            limits = [(name, value) for name, value in self.metadata.items() if name.startswith("x-ratelimit-")]
            headers += [(name.encode("ascii"), value.encode("ascii")) for name, value in sorted(limits)]
        if self.reason in NOT_TO_BE_RETRIED:
            headers.append((b"x-should-retry", b"false"))
        return headers


def challenge(failure: Failure, *, has_key: bool) -> list[tuple[bytes, bytes]]:
    """The WWW-Authenticate that every 401 has (RFC 9110, 11.6.1), and nothing else; takes whether a key came along.

    Without any credentials it names no error (RFC 6750, 3.1).
    """
    if failure.http_status != 401:
        return []
    return [(b"www-authenticate", b'Bearer realm="headgate"' + (b', error="invalid_token"' if has_key else b""))]


class Refused(Exception):
    """A request that the bridge itself refuses."""

    def __init__(self, failure: Failure) -> None:
        """Takes why."""
        super().__init__(failure.message)
        self.failure = failure


def log_refusal(failure: Failure, **where: object) -> None:
    """Writes the one line about a request that never reached the core, and so is not in the core's log."""
    log.info(
        "request_refused",
        status=failure.http_status,
        reason=failure.reason,
        message=failure.message[:300],
        **where,
    )


def _rich_status(error: aio.AioRpcError) -> status_pb2.Status | None:
    """The google.rpc.Status that came with the error; None where there is none that fits it."""
    try:
        status: status_pb2.Status | None = rpc_status.from_call(error)
    except (ValueError, DecodeError):
        return None
    return status


def _details(status: status_pb2.Status) -> tuple[error_details_pb2.ErrorInfo, float | None]:
    """The ErrorInfo (empty where there is none) and the delay of the RetryInfo."""
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    retry_after_seconds: float | None = None
    for detail in status.details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Unpack(retry):
            retry_after_seconds = retry.retry_delay.ToNanoseconds() / 1e9
    return info, retry_after_seconds
