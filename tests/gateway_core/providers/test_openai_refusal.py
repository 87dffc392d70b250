"""What hosts say when they refuse, in all the shapes that they use."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import orjson
import pytest
from grpc import StatusCode

from gateway_core import errors
from gateway_core.config import ProviderConfig
from gateway_core.upstream.refusal import Refusals, wait_seconds

KEY = "sk-secret-0123456789"


def refusals(base_url: str = "http://gpu-7.internal:8000/v1") -> Refusals:
    row = {"kind": "openai", "base_url": base_url, "api_key": KEY, "headers": {"x-team": "t0p-s3cret"}}
    return Refusals("lab", ProviderConfig.model_validate(row))


def message(body: bytes, status: int = 400) -> str:
    return refusals().answer(status, {}, body).message


SHAPES = {
    "OpenAI": (b'{"error":{"message":"No.","type":"t","param":null,"code":null}}', "No."),
    "in words": (b'{"error":"No."}', "No."),
    "words beside a code": (b'{"error":"unauthorized","message":"No."}', "No."),
    "vLLM": (b'{"object":"error","message":"No.","type":"BadRequestError","param":null,"code":400}', "No."),
    "FastAPI": (b'{"detail":"Not Found"}', "Not Found"),
    "FastAPI's list": (
        b'{"detail":[{"loc":["body","messages",0],"msg":"field required","type":"missing"},{"msg":"also"}]}',
        "body.messages.0: field required; also",
    ),
    "detail with a message": (b'{"detail":{"error":{"message":"No."}}}', "No."),
    "Google's list": (b'[{"error":{"code":400,"message":"No.","status":"INVALID_ARGUMENT"}}]', "No."),
    "OpenRouter": (
        b'{"error":{"message":"Provider returned error","code":400,"metadata":{"raw":"No."}}}',
        "Provider returned error: No.",
    ),
    "plain text": (b" upstream connect error \n", "upstream connect error"),
    "a JSON string": (b'"No."', "No."),
    "a page": (b"<!DOCTYPE html><html><h1>Bad gateway</h1>", "Provider lab answered with HTTP 400."),
    "nothing": (b"", "Provider lab answered with HTTP 400."),
    "bytes": (b"\0\xff\xfe", "Provider lab answered with HTTP 400."),
    "JSON of another kind": (b"[1]", "Provider lab answered with HTTP 400."),
    "an object that says nothing": (b'{"error":{"message":null},"detail":7}', "Provider lab answered with HTTP 400."),
}


@pytest.mark.parametrize(("body", "told"), SHAPES.values(), ids=SHAPES.keys())
def test_the_message_is_found_in_every_shape(body: bytes, told: str) -> None:
    assert message(body) == told


def test_type_code_and_parameter_are_kept_from_wherever_they_stand() -> None:
    inside = refusals().answer(400, {}, b'{"error":{"message":"m","type":"t","code":42,"param":"p"}}')
    beside = refusals().answer(400, {}, b'{"error":"m","type":"t","code":"42","param":"p"}')
    expected = {"provider": "lab", "upstream_status": "400", "upstream_type": "t", "upstream_code": "42", "param": "p"}
    assert inside.metadata == beside.metadata == expected


@pytest.mark.parametrize(
    "secret",
    [
        KEY,
        "t0p-s3cret",
        "http://gpu-7.internal:8000/v1",
        "http://GPU-7.internal:8000",
        "gpu-7.internal:8000",
        "gpu-7.internal",
    ],
)
def test_keys_and_addresses_are_not_told(secret: str) -> None:
    told = refusals().answer(400, {}, orjson.dumps({"error": {"message": f"See '{secret}'.", "code": secret}}))
    assert secret not in told.message
    assert "***" in told.message
    assert all(secret not in value for value in told.metadata.values())


def test_a_host_name_inside_another_word_is_told() -> None:
    told = refusals("http://lab:8000/v1").answer(400, {}, b'{"error":"collaborate at lab:8000"}')
    assert told.message == "collaborate at ***"


HEADERS = {
    "authorization": "Bearer 8f2a-scheme-key",
    "x-auth": "Token abc",
    "cookie": "session=5e551on5e551on; theme=dark",
    "x-key": "a/b+c=d e&f",
}


@pytest.mark.parametrize(
    ("quoted", "told"),
    [
        ("8f2a-scheme-key", "***"),
        ("BEARER 8f2a-scheme-key", "***"),
        ("key_8f2a-scheme-key_is", "key_***_is"),
        ("abc", "***"),
        ("abcd", "abcd"),
        ("5e551on5e551on", "***"),
        ("5e551on5e551onx", "***x"),
        ("?k=a%2Fb%2Bc%3Dd%20e%26f", "?k=***"),
        ("?k=a%2fb%2bc%3dd+e%26f", "?k=***"),
        ("a bearer of news", "a bearer of news"),
    ],
)
def test_each_part_of_a_secret_header_is_hidden_wherever_it_stands(quoted: str, told: str) -> None:
    row = {"kind": "openai", "base_url": "http://lab/v1", "headers": HEADERS}
    said = Refusals("lab", ProviderConfig.model_validate(row)).answer(400, {}, orjson.dumps({"error": quoted}))
    assert said.message == told


def test_a_key_is_hidden_inside_of_a_word_and_a_short_one_only_where_it_stands_alone() -> None:
    assert message(orjson.dumps({"error": f"x{KEY}y {KEY}y x{KEY}"})) == "x***y ***y x***"
    row = {"kind": "openai", "base_url": "http://lab/v1", "api_key": "lama"}
    short = Refusals("lab", ProviderConfig.model_validate(row))
    assert short.answer(400, {}, b'{"error":"the lama likes llama.cpp, ollama"}').message == (
        "the *** likes llama.cpp, ollama"
    )


@pytest.mark.parametrize(
    ("base_url", "said", "told"),
    [
        ("http://ollama:11434/v1", "ollama is at ollama:11434", "ollama is at ***"),
        ("http://ollama/v1", "ollama: http://ollama/v1, http://ollama, ollama/v1", "ollama: ***, ***, ***"),
        ("http://ollama/v1", "ollama:80", "***"),
        ("http://localhost:8000/v1", "localhost, localhost:8000", "localhost, ***"),
        ("https://api.lab.example/v1", "api.lab.example, api.lab.example:443", "***, ***"),
        ("http://10.1.2.3:8000/v1", "10.1.2.3 and 110.1.2.3", "*** and 110.1.2.3"),
        ("http://[fd00::7]:8000/v1", "[fd00::7]:8000 or fd00::7", "*** or ***"),
    ],
)
def test_a_host_is_hidden_by_itself_where_it_is_no_word(base_url: str, said: str, told: str) -> None:
    assert refusals(base_url).answer(400, {}, orjson.dumps({"error": said})).message == told


def test_a_refused_key_is_the_gateways_trouble() -> None:
    told = refusals().answer(401, {}, b'{"error":{"message":"Incorrect key sk-s***89."}}')
    assert isinstance(told, errors.ProviderUnauthorized)
    assert told.metadata == {"provider": "lab", "upstream_status": "401"}
    assert "sk-s" not in told.message


@pytest.mark.parametrize(
    "error",
    [
        {"message": "Your API key may not use this model."},
        {"message": "You do not have access to the model."},
        {"message": "No.", "type": "permission_error"},
        {"message": "No.", "code": "PERMISSION_DENIED"},
        {"message": "No.", "type": "authentication_error"},
        {"message": "No.", "code": "model_access_denied"},
        {"message": "No.", "type": "AccessDeniedException"},
        {"message": "User is not authorized to perform bedrock:InvokeModel, no identity-based policy allows it."},
    ],
)
def test_a_key_that_may_not_is_the_gateways_trouble(error: dict[str, str]) -> None:
    told = refusals().answer(403, {}, orjson.dumps({"error": error}))
    assert isinstance(told, errors.ProviderUnauthorized)
    assert told.metadata == {"provider": "lab", "upstream_status": "403"}
    assert error["message"] in told.message


@pytest.mark.parametrize(
    "error",
    [
        {"message": "No."},
        {"message": "Rejected.", "code": "content_policy_violation"},
        {"message": "Your input was flagged: how to access a monkey's key.", "type": "moderation"},
        {"message": "Country, region, or territory not supported", "code": "unsupported_country_region_territory"},
        {"message": "Access from your country is not allowed."},
        {"message": "Monkeys are not allowed.", "type": "request_forbidden"},
    ],
)
def test_what_else_is_forbidden_is_a_refusal_as_the_host_wrote_it(error: dict[str, str]) -> None:
    told = refusals().answer(403, {}, orjson.dumps({"error": error}))
    assert isinstance(told, errors.ProviderRefused)
    assert not told.retryable
    assert told.code is StatusCode.PERMISSION_DENIED
    kept = {f"upstream_{name}": value for name, value in error.items() if name != "message"}
    assert told.metadata == {"provider": "lab", "upstream_status": "403", **kept}
    assert told.message == error["message"]


def test_a_message_is_capped() -> None:
    told = refusals().answer(400, {}, orjson.dumps({"error": {"message": "x" * 10_000, "code": "y" * 10_000}}))
    assert len(told.message) == 2000
    assert len(told.metadata["upstream_code"]) == 200


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "20"}, 20),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "20"}, 1.5),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "9" * 14}, 7 * 24 * 3600),
    ],
)
def test_how_long_to_wait_is_read_from_the_headers(headers: dict[str, str], seconds: float | None) -> None:
    assert wait_seconds(headers) == seconds


def test_how_long_to_wait_may_be_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert wait_seconds({"retry-after": date}) == pytest.approx(60, abs=5)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": 503}, 503),
        ({"code": "429"}, 429),
        ({"code": "rate_limit_exceeded", "type": "tokens"}, 429),
        ({"type": "rate_limit_error"}, 429),
        ({"type": "insufficient_quota", "code": "insufficient_quota"}, 429),
        ({"type": "overloaded_error"}, 529),
        ({"type": "overloaded"}, 503),
        ({"type": "invalid_request_error", "code": None}, 400),
        ({"type": "invalid_request_error", "code": "context_length_exceeded"}, 400),
        ({"type": "invalid_request_error", "code": "model_not_found"}, 404),
        ({"type": "server_error", "code": "x_unknown"}, 500),
        ({"code": "server_error"}, 500),
        ({"type": "InternalServerError"}, 500),
        ({"code": "content_filter", "type": "permission_error"}, 400),
    ],
)
def test_a_failure_inside_an_answer_has_the_status_that_its_code_or_its_type_means(
    error: dict[str, Any], status: int
) -> None:
    told = refusals().event({"message": "m", **error})
    assert isinstance(told, errors.ProviderRefused)
    assert told.metadata["upstream_status"] == str(status)
    assert told.retryable is (status == 429 or status >= 500)


@pytest.mark.parametrize(
    "error",
    [{"code": 401}, {"type": "authentication_error"}, {"code": "invalid_api_key"}, {"type": "permission_error"}],
)
def test_a_key_that_is_refused_inside_an_answer_is_the_gateways_trouble(error: dict[str, Any]) -> None:
    assert isinstance(refusals().event({"message": "m", **error}), errors.ProviderUnauthorized)


def test_a_failure_that_nobody_knows_is_a_broken_answer() -> None:
    assert isinstance(refusals().event({"message": "m", "code": "oops"}), errors.ProviderBroken)
    assert isinstance(refusals().event({"message": "m", "code": 200}), errors.ProviderBroken)
    assert isinstance(refusals().event(True), errors.ProviderBroken)
