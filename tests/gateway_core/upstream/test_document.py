"""The JSON that hosts answer, and what is none."""

from typing import Any

import orjson
import pytest

from gateway_core.config import ProviderConfig
from gateway_core.errors import ProviderBroken, ProviderError, ProviderRefused
from gateway_core.upstream.depth import DEEPEST, value_within
from gateway_core.upstream.document import document_of
from gateway_core.upstream.refusal import Refusals

REFUSALS = Refusals("lab", ProviderConfig(kind="openai", base_url="http://127.0.0.1:1"))


def lists(depth: int) -> str:
    """Lists inside each other, beside enough brackets in a text to be counted."""
    return f'{{"text": "{"[" * DEEPEST}", "lists": {"[" * depth}{"]" * depth}}}'


@pytest.mark.parametrize("document", [{}, {"a": [1]}, {"error": None}, {"error": ""}, {"error": {}}], ids=str)
def test_an_object_is_read(document: dict[str, Any]) -> None:
    assert document_of(orjson.dumps(document), REFUSALS) == document


@pytest.mark.parametrize("data", [b"", b"{", b"{}{}", b"\xff", b"NaN", b'"\\ud800"', b"[" * 2000 + b"]" * 2000])
def test_what_is_no_json_is_broken(data: bytes) -> None:
    with pytest.raises(ProviderBroken, match="not JSON"):
        document_of(data, REFUSALS)


@pytest.mark.parametrize("data", [b"[]", b"null", b"1", b'"error"', b'[{"error": "No."}]', b"[" * 300 + b"]" * 300])
def test_what_is_no_object_is_broken(data: bytes) -> None:
    with pytest.raises(ProviderBroken, match="not a JSON object"):
        document_of(data, REFUSALS)


def test_what_nests_as_deep_as_may_be_is_read_and_no_deeper() -> None:
    deepest, deeper = lists(DEEPEST - 1), lists(DEEPEST)
    assert document_of(deepest.encode(), REFUSALS) == value_within(deepest)
    with pytest.raises(ProviderBroken, match="nests deeper than 200"):
        document_of(deeper.encode(), REFUSALS)
    with pytest.raises(ValueError, match="nests deeper than 200"):
        value_within(deeper)


@pytest.mark.parametrize(
    ("error", "kind"), [("No.", ProviderBroken), ({"message": "No.", "code": 503}, ProviderRefused)], ids=str
)
def test_an_error_is_the_hosts(error: Any, kind: type[ProviderError]) -> None:
    with pytest.raises(kind, match=r"No\."):
        document_of(orjson.dumps({"error": error, "choices": []}), REFUSALS)


@pytest.mark.parametrize("deep", [b'{"message":' * 1000 + b"1" + b"}" * 1000, b"[" * 1000 + b"]" * 1000])
def test_a_refusal_that_nests_too_deep_is_a_refusal_all_the_same(deep: bytes) -> None:
    assert isinstance(REFUSALS.answer(400, {}, deep), ProviderError)
