"""Whatever OpenAI's API lets a caller ask is written for every provider, or refused as the caller's own mistake."""

from contextlib import suppress

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_core.errors import InvalidRequest
from rest_bridge.dialects.openai.request import chat_completion_spec
from tests.golden.providers.test_golden import FORMATS
from tests.support.openai_documents import REQUEST, Document, fullest, requests

# One of each family that a provider tells apart.
MODELS = (
    "tiny", "claude-opus-4-8", "claude-sonnet-4-5", "anthropic.claude-opus-4-6-v1", "us.amazon.nova-2-lite-v1:0",
    "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "openai.gpt-oss-120b-1:0", "gemini-2.5-pro", "gemini-3-pro",
)  # fmt: skip

every_kind = pytest.mark.parametrize("kind", FORMATS)


def write(kind: str, document: Document, model: str) -> None:
    spec = chat_completion_spec(orjson.loads(orjson.dumps({**document, "model": model})))
    with suppress(InvalidRequest):
        assert orjson.dumps(FORMATS[kind].request(spec))


@every_kind
@given(requests, st.sampled_from(MODELS))
@settings(max_examples=50)
def test_any_request_is_written_or_refused(kind: str, document: Document, model: str) -> None:
    write(kind, document, model)


@every_kind
@pytest.mark.parametrize("model", MODELS)
def test_every_documented_field_in_every_form_is_written_or_refused(kind: str, model: str) -> None:
    for document in fullest(REQUEST):
        write(kind, document, model)
        # What cannot be said in a message hides what can be asked beside it.
        write(kind, {**document, "messages": [{"role": "user", "content": "Hi"}]}, model)
