"""The errors that a call can end with.

Each knows its gRPC status, its reason in the contract, and whether another attempt may succeed.

    GatewayError
    ├── InvalidRequest            the caller's request is wrong
    │   ├── UnsupportedParameter  … for this target, and the configuration says reject
    │   ├── ParameterNotAllowed   … for a public key
    │   └── ContextTooLong        the prompt has more tokens than may be
    ├── Unauthenticated           the key is missing, unknown or deleted
    │   └── KeyExpired
    ├── PermissionDenied          the key may not do this
    │   └── ModelNotAllowed
    ├── QuotaExceeded             the account has had what it may have
    │   ├── InsufficientBalance
    │   ├── SpendCapReached
    │   ├── RateLimited           … in this time
    │   └── ConcurrencyLimited    … at the same time
    ├── NotFound                  there is no such account, key, gateway or plan, or it is another account's
    ├── AlreadyExists
    ├── Conflict                  what is there does not allow it
    ├── ModelNotFound
    ├── StreamTakenOver           another caller continues it
    ├── ChunksGone                what is asked of a stream is no longer kept
    ├── TooLarge                  a request is over a configured limit
    ├── DeadlineExceeded          the caller's deadline passed
    ├── ShuttingDown
    ├── Unavailable               what the call needs cannot answer now
    ├── Unimplemented
    ├── Internal                  a fault of Headgate's own
    └── ProviderError             the provider is at fault
        ├── ProviderRefused       it answered with an error
        ├── ProviderUnauthorized  it refused the key that Headgate has for it
        ├── ProviderUnreachable   it did not accept a connection
        ├── ProviderTimeout       it was silent for too long
        └── ProviderBroken        its answer broke off, made no sense or was too large
            └── ProviderHungUp    … before there were any headers
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from google.protobuf import duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc import StatusCode
from headgate.v1 import error_reason_pb2 as reasons

DOMAIN = "headgate.v1"


class GatewayError(Exception):
    """A call's failure: a sentence for the caller to act on, and its variables as metadata."""

    status: ClassVar[StatusCode] = StatusCode.INTERNAL
    reason: ClassVar[reasons.ErrorReason] = reasons.ERROR_REASON_INTERNAL
    retryable: bool = False
    """Whether another target may do better."""

    def __init__(self, message: str, *, retry_after_seconds: float | None = None, **metadata: str) -> None:
        """Takes the sentence, how long to wait before another attempt (None: not known), and the metadata.

        What ErrorReason says about each reason names the metadata keys.
        """
        super().__init__(message)
        self.message = message
        self.retry_after_seconds = retry_after_seconds
        self.metadata = metadata

    @property
    def reason_name(self) -> str:
        """The name of the reason in the contract."""
        return reasons.ErrorReason.Name(self.reason)

    @property
    def word(self) -> str:
        """What logs and metrics call the failure: "rate_limited"; its status where it has no reason."""
        return (self.reason_name.removeprefix("ERROR_REASON_") if self.reason else self.code.name).lower()

    @property
    def code(self) -> StatusCode:
        """The gRPC status code of this very failure."""
        return self.status

    def to_status(self) -> status_pb2.Status:
        """The failure as gRPC's rich status: ErrorInfo where there is a reason, RetryInfo where a wait is known."""
        details: list[Any] = []
        if self.reason:
            details.append(error_details_pb2.ErrorInfo(reason=self.reason_name, domain=DOMAIN, metadata=self.metadata))
        if self.retry_after_seconds is not None:
            delay = duration_pb2.Duration()
            delay.FromNanoseconds(round(self.retry_after_seconds * 1e9))
            details.append(error_details_pb2.RetryInfo(retry_delay=delay))
        details += self.further_details()
        status = status_pb2.Status(code=code_pb2.Code.Value(self.code.name), message=self.message)
        for detail in details:
            status.details.add().Pack(detail)
        return status

    def further_details(self) -> Sequence[Any]:
        """Messages of google.rpc that the status carries beside those that every failure has."""
        return ()


class InvalidRequest(GatewayError):
    """The request is wrong. Metadata: param."""

    status = StatusCode.INVALID_ARGUMENT
    reason = reasons.ERROR_REASON_INVALID_REQUEST


class UnsupportedParameter(InvalidRequest):
    """The target cannot take a parameter, and the configuration says reject. Metadata: param, provider."""

    reason = reasons.ERROR_REASON_UNSUPPORTED_PARAMETER


class ParameterNotAllowed(InvalidRequest):
    """A public key may not send this parameter. Metadata: param."""

    reason = reasons.ERROR_REASON_PARAMETER_NOT_ALLOWED


class ContextTooLong(InvalidRequest):
    """The prompt has more tokens than the plan, the gateway or the model takes.

    Metadata: param, limit (in tokens), input_tokens (as counted).
    """

    reason = reasons.ERROR_REASON_CONTEXT_TOO_LONG


class Unauthenticated(GatewayError):
    """The key is missing, unknown or deleted."""

    status = StatusCode.UNAUTHENTICATED
    reason = reasons.ERROR_REASON_UNAUTHENTICATED


class KeyExpired(Unauthenticated):
    """The key's time has passed."""

    reason = reasons.ERROR_REASON_KEY_EXPIRED


class PermissionDenied(GatewayError):
    """The key may not do this."""

    status = StatusCode.PERMISSION_DENIED
    reason = reasons.ERROR_REASON_PERMISSION_DENIED


class ModelNotAllowed(PermissionDenied):
    """The key, the account or its plan may not ask this model. Metadata: param, model."""

    reason = reasons.ERROR_REASON_MODEL_NOT_ALLOWED


class QuotaExceeded(GatewayError):
    """The account has had what it may have; one of the classes below says of what."""

    status = StatusCode.RESOURCE_EXHAUSTED


class InsufficientBalance(QuotaExceeded):
    """The balance does not cover the call. Metadata: estimated_cost_usd, left_usd (less what running calls hold)."""

    reason = reasons.ERROR_REASON_INSUFFICIENT_BALANCE


class SpendCapReached(QuotaExceeded):
    """The account may not spend what the call may cost. Metadata: estimated_cost_usd, left_usd, as of the cap."""

    reason = reasons.ERROR_REASON_SPEND_CAP_REACHED


class RateLimited(QuotaExceeded):
    """Too many requests or tokens in a time. Metadata: limit (which one), subject (whose, where it is told)."""

    reason = reasons.ERROR_REASON_RATE_LIMITED

    def further_details(self) -> Sequence[Any]:
        """The QuotaFailure that says which limit."""
        violation = error_details_pb2.QuotaFailure.Violation(
            subject=self.metadata.get("subject", ""), description=self.metadata.get("limit", self.message)
        )
        return (error_details_pb2.QuotaFailure(violations=[violation]),)


class ConcurrencyLimited(QuotaExceeded):
    """As many calls are running as may run at the same time. Metadata: limit."""

    reason = reasons.ERROR_REASON_CONCURRENCY_LIMITED


class NotFound(GatewayError):
    """There is no such thing, or it is another account's. Metadata: resource, id."""

    status = StatusCode.NOT_FOUND
    reason = reasons.ERROR_REASON_NOT_FOUND


class AlreadyExists(GatewayError):
    """There is one of that name. Metadata: resource, id."""

    status = StatusCode.ALREADY_EXISTS
    reason = reasons.ERROR_REASON_ALREADY_EXISTS


class Conflict(GatewayError):
    """What is there does not allow it. Metadata: resource, id."""

    status = StatusCode.FAILED_PRECONDITION
    reason = reasons.ERROR_REASON_CONFLICT


class ModelNotFound(GatewayError):
    """There is no such model. Metadata: param, model."""

    status = StatusCode.NOT_FOUND
    reason = reasons.ERROR_REASON_MODEL_NOT_FOUND


class StreamTakenOver(GatewayError):
    """Another caller continues the stream now."""

    status = StatusCode.ABORTED
    reason = reasons.ERROR_REASON_STREAM_TAKEN_OVER


class ChunksGone(GatewayError):
    """Chunks of a stream are no longer kept. Metadata: id, first_sequence."""

    status = StatusCode.OUT_OF_RANGE
    reason = reasons.ERROR_REASON_CHUNKS_GONE


class TooLarge(GatewayError):
    """A request is larger than the configuration allows. Metadata: limit."""

    status = StatusCode.RESOURCE_EXHAUSTED
    reason = reasons.ERROR_REASON_TOO_LARGE


class DeadlineExceeded(GatewayError):
    """The caller's deadline passed. Metadata: provider, where one was being asked."""

    status = StatusCode.DEADLINE_EXCEEDED
    reason = reasons.ERROR_REASON_DEADLINE_EXCEEDED


class ShuttingDown(GatewayError):
    """The server takes no new calls."""

    status = StatusCode.UNAVAILABLE
    reason = reasons.ERROR_REASON_SHUTTING_DOWN
    retryable = True


class Unavailable(GatewayError):
    """What the call needs cannot answer now. The contract has no reason for it: the status says it."""

    status = StatusCode.UNAVAILABLE
    reason = reasons.ERROR_REASON_UNSPECIFIED


class Unimplemented(GatewayError):
    """Headgate does not do this."""

    status = StatusCode.UNIMPLEMENTED
    reason = reasons.ERROR_REASON_UNIMPLEMENTED


class Internal(GatewayError):
    """A fault of Headgate's own; what happened is in the log under the request id."""


class ProviderError(GatewayError):
    """The provider is at fault. Metadata: provider."""

    status = StatusCode.UNAVAILABLE
    reason = reasons.ERROR_REASON_PROVIDER_BROKEN
    retryable = True


class ProviderRefused(ProviderError):
    """The provider answered with an error.

    Metadata: provider, upstream_status and, as the provider wrote them, upstream_type, upstream_code, param.
    """

    reason = reasons.ERROR_REASON_PROVIDER_REFUSED

    # gRPC's status for the provider's HTTP status; those that are not here: see `code`.
    CODES: ClassVar[dict[int, StatusCode]] = {
        403: StatusCode.PERMISSION_DENIED,
        404: StatusCode.NOT_FOUND,
        408: StatusCode.DEADLINE_EXCEEDED,
        409: StatusCode.ABORTED,
        413: StatusCode.RESOURCE_EXHAUSTED,
        402: StatusCode.RESOURCE_EXHAUSTED,
        424: StatusCode.UNAVAILABLE,
        429: StatusCode.RESOURCE_EXHAUSTED,
        500: StatusCode.INTERNAL,
        501: StatusCode.UNIMPLEMENTED,
        504: StatusCode.DEADLINE_EXCEEDED,
    }

    def __init__(self, message: str, *, retry_after_seconds: float | None = None, **metadata: str) -> None:
        """Takes what every error takes; upstream_status says whether another target may do better."""
        super().__init__(message, retry_after_seconds=retry_after_seconds, **metadata)
        status = int(metadata["upstream_status"])
        self.retryable = status >= 500 or status in {402, 408, 409, 424, 429}

    @property
    def code(self) -> StatusCode:
        """The gRPC status that fits the provider's HTTP status."""
        http_status = int(self.metadata["upstream_status"])
        default = StatusCode.UNAVAILABLE if http_status >= 500 else StatusCode.INVALID_ARGUMENT
        return self.CODES.get(http_status, default)


class ProviderUnauthorized(ProviderError):
    """The provider refused the key that Headgate has for it. Metadata: provider, upstream_status."""

    status = StatusCode.INTERNAL
    reason = reasons.ERROR_REASON_PROVIDER_UNAUTHORIZED


class ProviderUnreachable(ProviderError):
    """The provider did not accept a connection. Metadata: provider."""

    reason = reasons.ERROR_REASON_PROVIDER_UNREACHABLE


class ProviderTimeout(ProviderError):
    """The provider was silent for longer than the configuration allows. Metadata: provider, phase."""

    status = StatusCode.DEADLINE_EXCEEDED
    reason = reasons.ERROR_REASON_PROVIDER_TIMEOUT


class ProviderBroken(ProviderError):
    """The provider's answer broke off, made no sense or was larger than is allowed. Metadata: provider."""


class Relayed(GatewayError):
    """What another process of the gateway failed with, as it told it."""

    def __init__(self, told: status_pb2.Status) -> None:
        """Takes all that it told."""
        super().__init__(told.message)
        self._told = told

    @property
    def reason_name(self) -> str:
        """The name of the reason in the contract."""
        info = error_details_pb2.ErrorInfo()
        found = [info.reason for detail in self._told.details if detail.Is(info.DESCRIPTOR) and detail.Unpack(info)]
        return found[0] if found else ""

    @property
    def word(self) -> str:
        """As that of the failure that it was."""
        return (self.reason_name.removeprefix("ERROR_REASON_") or self.code.name).lower()

    @property
    def code(self) -> StatusCode:
        """The gRPC status code of the failure."""
        return StatusCode[code_pb2.Code.Name(self._told.code)]

    def to_status(self) -> status_pb2.Status:
        """The failure, as it was told."""
        return self._told


class ProviderHungUp(ProviderBroken):
    """The provider ended the connection before the headers of an answer. Metadata: provider."""
