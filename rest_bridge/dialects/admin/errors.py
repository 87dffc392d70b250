"""A failure in the administrative API's JSON: a sentence, and what programs can read beside it."""

import orjson

from rest_bridge.errors import Failure


def document(failure: Failure) -> bytes:
    """The error document: {"error": sentence, "details": {"reason": …, what the contract tells beside it}}."""
    details: dict[str, str | None] = dict(failure.metadata)
    details["reason"] = failure.reason.removeprefix("ERROR_REASON_").lower() or None
    return orjson.dumps({"error": failure.message, "details": details})
