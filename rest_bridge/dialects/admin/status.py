"""The HTTP statuses that are not 200, as the description tells them."""

from http import HTTPStatus
from typing import Any

ADMIN_ERROR: dict[str, Any] = {
    "type": "object",
    "description": "Why a request failed.",
    "properties": {
        "error": {"type": "string", "description": "A sentence that the caller can act on."},
        "details": {
            "type": "object",
            "description": "What programs can read of it.",
            "properties": {
                "reason": {"type": ["string", "null"], "description": "An ErrorReason, in lower case: not_found."},
                "param": {"type": "string", "description": "Path of the field that is wrong, where one is."},
            },
            "required": ["reason"],
            "additionalProperties": {"type": "string"},
        },
    },
    "required": ["error", "details"],
}

EVERY = {
    400: "The request is wrong; details.param names the field.",
    401: "The key is missing, unknown, deleted or expired.",
    403: "The key may not do this.",
    404: "There is no such thing, or it is another account's.",
    408: "The caller's deadline passed, or the body did not arrive in time.",
    413: "The request, or its answer, is larger than is allowed.",
    429: "There were too many requests; Retry-After tells when to try again.",
    500: "A fault of Headgate's own, which is in its log under the request id.",
    501: "This server does not do this.",
    503: "The server is shutting down, or its core cannot be reached.",
}
WITH_BODY = {
    409: "There is one already, or what is there does not allow it.",
    415: "The body is compressed.",
}
DELETING = {409: WITH_BODY[409]}
HEADERS_TOO_LARGE = 431
BARE = {HEADERS_TOO_LARGE: "The header fields are larger than is allowed."}


def statuses(verb: str) -> list[int]:
    """The statuses with which an operation may fail."""
    more = {"POST": WITH_BODY, "PATCH": WITH_BODY, "DELETE": DELETING}.get(verb, {})
    return sorted({**EVERY, **more, **BARE})


def response_references(verb: str) -> dict[str, dict[str, str]]:
    """The failures of an operation, by status."""
    return {str(status): {"$ref": f"#/components/responses/{name(status)}"} for status in statuses(verb)}


def error_responses() -> dict[str, Any]:
    """The failures of the administrative API, by name."""
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    told: dict[str, Any] = {
        name(status): {"description": text, "content": content} for status, text in {**EVERY, **WITH_BODY}.items()
    }
    told.update({name(status): {"description": text} for status, text in BARE.items()})
    return told


def name(status: int) -> str:
    """The name of a failure: "NotFound"."""
    return HTTPStatus(status).phrase.title().replace(" ", "").replace("-", "")
