"""A failure in OpenAI's JSON (https://platform.openai.com/docs/guides/error-codes)."""

from typing import Any

import orjson

from rest_bridge.errors import Failure

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    408: "timeout_error",
    410: "invalid_request_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
    504: "timeout_error",
}


CODES = {"ERROR_REASON_CONTEXT_TOO_LONG": "context_length_exceeded"}
"""Reasons that OpenAI has a word of its own for, by which clients know that they must shorten the conversation."""


def document(failure: Failure) -> bytes:
    """The error object. What a provider wrote of type, code and param stays; else the code is the reason's name."""
    metadata = failure.metadata
    status = failure.http_status
    error: dict[str, Any] = {
        "message": failure.message,
        "type": metadata.get("upstream_type") or TYPES.get(status, "server_error" if status >= 500 else "api_error"),
        "param": failure.param,
        "code": metadata.get("upstream_code") or code(failure),
    }
    if "partial" in metadata:
        error["partial"] = True
        used = {name: int(metadata[name]) for name in ("prompt_tokens", "completion_tokens") if name in metadata}
        if used:
            error["usage"] = used
    return orjson.dumps({"error": error})


def code(failure: Failure) -> str | None:
    """The reason in the form of OpenAI's codes: "model_not_found". None where the provider gave no code."""
    if failure.reason == "ERROR_REASON_PROVIDER_REFUSED" or not failure.reason:
        return None
    return CODES.get(failure.reason) or failure.reason.removeprefix("ERROR_REASON_").lower()
