"""Failure → Ollama's error document. Source: docs/api/errors.mdx of Ollama."""

from rest_bridge.errors import Failure


def error_document(failure: Failure) -> dict[str, str]:
    """The error, as the body of an answer and as the last line of a stream.

    For a model that does not exist it has Ollama's words, by which its clients know the case.
    """
    model = failure.metadata.get("model")
    if failure.reason == "ERROR_REASON_MODEL_NOT_FOUND" and model:
        return {"error": f"model '{model}' not found"}
    return {"error": failure.message}
