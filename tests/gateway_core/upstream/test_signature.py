"""Signature Version 4, held to AWS's published test vectors.

Source: the Signature Version 4 test suite, now tests/aws-signing-test-suite of awslabs/aws-c-auth: its key, time and
scope, and for each case the request and its signature.
"""

from datetime import UTC, datetime

import pytest

from gateway_core.upstream.signature import Credentials, Signer, canonical_request

AT = datetime(2015, 8, 30, 12, 36, tzinfo=UTC).timestamp()
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
HOST = {"host": "example.amazonaws.com"}
SESSION = (
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthA"
    "x7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY"
    "9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
)


def signed(
    method: str = "GET",
    path: str = "/",
    headers: dict[str, str] = HOST,
    body: bytes = b"",
    token: str | None = None,
) -> dict[str, str]:
    signer = Signer(Credentials("AKIDEXAMPLE", SECRET, token), "us-east-1", "service")
    return signer.headers(method, path, headers, body, AT)


def test_get_vanilla() -> None:
    assert signed() == {
        "x-amz-date": "20150830T123600Z",
        "authorization": (
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
            "SignedHeaders=host;x-amz-date, "
            "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        ),
    }


FORM = {**HOST, "content-type": "application/x-www-form-urlencoded"}
CASES = {
    "post-vanilla": (
        signed("POST"), "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
    ),
    "get-utf8": (
        signed(path="/ሴ"), "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"
    ),
    "post-x-www-form-urlencoded": (
        signed("POST", headers={
            **FORM, "content-length": "13",
            "x-amz-content-sha256": "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e",
        }, body=b"Param1=value1"),
        "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b",
    ),
    "post-sts-header-before": (
        signed("POST", token=SESSION), "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"
    ),
    "get-vanilla-with-session-token": (
        signed(token="6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"),
        "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("found", "signature"), CASES.values(), ids=CASES.keys())
def test_a_request_is_signed_as_aws_published_it(found: dict[str, str], signature: str) -> None:
    assert found["authorization"].rpartition("Signature=")[2] == signature


def test_a_session_token_is_sent_and_signed() -> None:
    found = signed(token="t0ken")
    assert found["x-amz-security-token"] == "t0ken"
    assert "SignedHeaders=host;x-amz-date;x-amz-security-token," in found["authorization"]


def test_what_is_encoded_in_the_path_is_encoded_again() -> None:
    path = "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fus.a-v1%3A0/converse"
    line = canonical_request("POST", path, HOST, b"").splitlines()[1]
    assert line == "/model/arn%253Aaws%253Abedrock%253Aus-east-1%253A1%253Ainference-profile%252Fus.a-v1%253A0/converse"


def test_spaces_in_and_around_a_header_are_signed_as_one_and_as_none() -> None:
    lines = canonical_request("GET", "/", {"b": "  a   b  ", "a": "1"}, b"").splitlines()
    assert lines[3:6] == ["a:1", "b:a b", ""]


def test_the_key_of_another_day_is_another_key() -> None:
    signer = Signer(Credentials("AKIDEXAMPLE", SECRET), "us-east-1", "service")
    first = signer.headers("GET", "/", HOST, b"", AT)
    assert signer.headers("GET", "/", HOST, b"", AT + 86400)["authorization"] != first["authorization"]
    assert signer.headers("GET", "/", HOST, b"", AT) == first


def test_secrets_are_not_shown() -> None:
    shown = repr(Credentials("AKIDEXAMPLE", SECRET, "t0ken"))
    assert not any(secret in shown for secret in ("AKIDEXAMPLE", SECRET, "t0ken"))
