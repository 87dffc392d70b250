"""What hosts say when they refuse, in all the shapes that they use."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import orjson
import pytest

from gateway_core import errors
from gateway_core.config import ProviderConfig
from gateway_core.providers.openai.refusal import Refusals, wait_seconds

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


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_the_gateways_trouble(status: int) -> None:
    told = refusals().answer(status, {}, b'{"error":{"message":"Incorrect key sk-s***89."}}')
    assert isinstance(told, errors.ProviderUnauthorized)
    assert told.metadata == {"provider": "lab", "upstream_status": str(status)}
    assert ("sk-s" in told.message) is (status == 403)


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


def test_a_status_inside_an_answer_makes_it_a_refusal() -> None:
    assert isinstance(refusals().event({"message": "m", "code": 503}), errors.ProviderRefused)
    assert isinstance(refusals().event({"message": "m", "code": "429"}), errors.ProviderRefused)
    assert isinstance(refusals().event({"message": "m", "code": 401}), errors.ProviderUnauthorized)
    assert isinstance(refusals().event({"message": "m", "code": "server_error"}), errors.ProviderBroken)
    assert isinstance(refusals().event(True), errors.ProviderBroken)
