"""Refuses what no provider could answer, before anything is asked for it."""

import re
from collections.abc import Awaitable
from typing import Any

from gateway_core.call import Call, Events, Next
from gateway_core.errors import InvalidRequest

REQUEST_ID_AT_MOST = 128
TAG = re.compile(r"[\x20-\x7e]{1,64}")


class Stage:
    """Checks the request as its operation says, and the metadata that goes with every request."""

    def __call__(self, call: Call[Any], next: Next[Any]) -> Awaitable[Events]:
        """Raises InvalidRequest, which names the field."""
        given = call.metadata.get("x-request-id")
        # One that could be taken is the call's own.
        if given and given != call.request_id and not is_request_id(given):
            raise InvalidRequest("x-request-id must be 1 to 128 printable ASCII characters.", param="x-request-id")
        tag = call.metadata.get("x-headgate-tag")
        if tag:
            if not TAG.fullmatch(tag):
                raise InvalidRequest(
                    "x-headgate-tag must be 1 to 64 printable ASCII characters.", param="x-headgate-tag"
                )
            call.tag = tag
        call.check()
        return next(call)


def is_request_id(text: str) -> bool:
    """Whether a text is an id that a log and a header can hold: printable ASCII characters other than spaces."""
    return 0 < len(text) <= REQUEST_ID_AT_MOST and text.isascii() and text.isprintable() and " " not in text
