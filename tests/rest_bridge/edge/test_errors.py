import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode, aio
from headgate.v1 import error_reason_pb2
from structlog.testing import capture_logs

from rest_bridge.errors import HTTP_OF_REASON, Failure, log_refusal

REASONS = [
    name for name in error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name if name != "ERROR_REASON_UNSPECIFIED"
]


def rpc_error(
    code: StatusCode, reason: str = "", *, retry: float | None = None, domain: str = "headgate.v1", **metadata: str
) -> aio.AioRpcError:
    details = []
    if reason:
        packed = any_pb2.Any()
        packed.Pack(error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata))
        details.append(packed)
    if retry is not None:
        packed = any_pb2.Any()
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(round(retry * 1e9))
        packed.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
        details.append(packed)
    status = status_pb2.Status(code=code.value[0], message="A sentence.", details=details)
    trailing = aio.Metadata(("grpc-status-details-bin", status.SerializeToString()))
    return aio.AioRpcError(code, aio.Metadata(), trailing, "A sentence.")


def test_a_failed_rpc_is_read_once_with_all_that_it_tells() -> None:
    error = rpc_error(
        StatusCode.RESOURCE_EXHAUSTED, "ERROR_REASON_RATE_LIMITED", retry=1.25, limit="requests_per_minute"
    )
    failure = Failure.of(error)
    assert failure == Failure(
        StatusCode.RESOURCE_EXHAUSTED,
        "ERROR_REASON_RATE_LIMITED",
        "A sentence.",
        {"limit": "requests_per_minute"},
        1.25,
    )
    assert failure.http_status == 429
    assert failure.headers == [(b"retry-after", b"2")]


def test_every_reason_of_the_contract_has_an_http_status() -> None:
    assert set(REASONS) - {"ERROR_REASON_PROVIDER_REFUSED"} == set(HTTP_OF_REASON)


@pytest.mark.parametrize(
    ("told", "status"),
    [
        ("429", 429),
        ("404", 404),
        ("529", 529),
        ("302", 502),
        ("200", 502),
        ("", 502),
        ("abc", 502),
        ("4\N{ARABIC-INDIC DIGIT ZERO}4", 502),
    ],
)
def test_a_providers_refusal_keeps_its_status_where_it_is_one_of_an_error(told: str, status: int) -> None:
    error = rpc_error(StatusCode.UNAVAILABLE, "ERROR_REASON_PROVIDER_REFUSED", upstream_status=told)
    assert Failure.of(error).http_status == status


def test_the_path_of_what_is_wrong_is_read() -> None:
    error = rpc_error(StatusCode.INVALID_ARGUMENT, "ERROR_REASON_INVALID_REQUEST", param="messages[1]")
    assert Failure.of(error).param == "messages[1]"
    assert Failure.of(rpc_error(StatusCode.INTERNAL, "ERROR_REASON_INTERNAL")).param is None


def test_the_deadline_of_the_caller_and_the_silence_of_the_provider_differ() -> None:
    own = rpc_error(StatusCode.DEADLINE_EXCEEDED, "ERROR_REASON_DEADLINE_EXCEEDED")
    providers = rpc_error(StatusCode.DEADLINE_EXCEEDED, "ERROR_REASON_PROVIDER_TIMEOUT")
    assert (Failure.of(own).http_status, Failure.of(providers).http_status) == (408, 504)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (StatusCode.UNAVAILABLE, 503),
        (StatusCode.DEADLINE_EXCEEDED, 408),
        (StatusCode.CANCELLED, 499),
        (StatusCode.UNIMPLEMENTED, 501),
        (StatusCode.UNKNOWN, 500),
        (StatusCode.INTERNAL, 500),
        (StatusCode.DATA_LOSS, 500),
        (StatusCode.RESOURCE_EXHAUSTED, 429),
    ],
)
def test_words_of_grpc_itself_never_reach_the_caller(code: StatusCode, status: int) -> None:
    words = "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.1.2.3:50051: Connection refused"
    failure = Failure.of(aio.AioRpcError(code, aio.Metadata(), aio.Metadata(), words))
    assert failure.http_status == status
    assert "10.1.2.3" not in repr(failure)
    assert failure.message.endswith(".")


def test_a_message_too_large_for_grpc_is_too_large() -> None:
    words = "CLIENT: Received message larger than max (70000000 vs. 67108864)"
    failure = Failure.of(aio.AioRpcError(StatusCode.RESOURCE_EXHAUSTED, aio.Metadata(), aio.Metadata(), words))
    assert failure.http_status == 413


@pytest.mark.parametrize("details", [b"\xff\xff\xff", status_pb2.Status(code=3, message="x").SerializeToString()])
def test_details_that_make_no_sense_are_passed_over(details: bytes) -> None:
    trailing = aio.Metadata(("grpc-status-details-bin", details))
    failure = Failure.of(aio.AioRpcError(StatusCode.UNAVAILABLE, aio.Metadata(), trailing, "secret"))
    assert failure.http_status == 503
    assert "secret" not in failure.message


def test_a_reason_of_another_domain_is_none_of_ours() -> None:
    error = rpc_error(StatusCode.NOT_FOUND, "ERROR_REASON_INTERNAL", domain="example.com")
    failure = Failure.of(error)
    assert (failure.reason, failure.http_status) == ("", 404)


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Failure.invalid("Wrong.", "model"), 400),
        (Failure.too_large(10), 413),
        (Failure.slow_body(), 408),
        (Failure.deadline_exceeded(), 408),
        (Failure.unsupported_encoding(), 415),
        (Failure.route_not_found("GET", "/nothing"), 404),
        (Failure.method_not_allowed("PUT", ("GET", "POST")), 405),
        (Failure.client_left(), 499),
        (Failure.internal(), 500),
    ],
)
def test_the_bridges_own_failures_have_their_status(failure: Failure, status: int) -> None:
    assert failure.http_status == status
    assert failure.message.endswith(".")


def test_a_method_that_is_not_allowed_is_answered_with_those_that_are() -> None:
    assert Failure.method_not_allowed("PUT", ("GET", "POST")).headers == [(b"allow", b"GET, POST")]


def test_a_limit_that_is_reached_is_told_in_headers() -> None:
    told = {"x-ratelimit-limit-requests": "5", "x-ratelimit-reset-requests": "1.5s", "limit": "5 requests per 60 s"}
    failure = Failure(StatusCode.RESOURCE_EXHAUSTED, "ERROR_REASON_RATE_LIMITED", "Wait.", metadata=told)
    assert failure.headers == [(b"x-ratelimit-limit-requests", b"5"), (b"x-ratelimit-reset-requests", b"1.5s")]
    of_the_provider = Failure(StatusCode.RESOURCE_EXHAUSTED, "ERROR_REASON_PROVIDER_REFUSED", "Wait.", metadata=told)
    assert of_the_provider.headers == []


def test_a_refusal_is_one_line_in_the_log() -> None:
    with capture_logs() as lines:
        log_refusal(Failure.too_large(10), dialect="openai", path="/v1/chat/completions")
    assert lines == [
        {
            "event": "request_refused",
            "log_level": "info",
            "status": 413,
            "reason": "ERROR_REASON_TOO_LARGE",
            "message": "The request body is larger than 10 bytes.",
            "dialect": "openai",
            "path": "/v1/chat/completions",
        }
    ]
