"""A failure in Ollama's JSON (docs/api/errors.mdx of Ollama)."""

import orjson

from rest_bridge.errors import Failure


def document(failure: Failure) -> bytes:
    """The error, as the body of an answer and as the last line of a stream.

    For a model that does not exist it has Ollama's words, by which clients know the case.
    """
    model = failure.metadata.get("model")
    if failure.reason == "ERROR_REASON_MODEL_NOT_FOUND" and model:
        return orjson.dumps({"error": f"model '{model}' not found"})
    return orjson.dumps({"error": failure.message})
