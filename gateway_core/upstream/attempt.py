"""What hosts call one request, as they want to be told when asked about it."""

from collections.abc import Mapping

REQUEST_ID_AT_MOST = 200
"""Characters that a host's name of a request may have."""


def name_of_attempt(headers: Mapping[str, str], field: str) -> str:
    """What a header field of an answer calls the request. Empty: nothing that is short text.

    Sources: OpenAI's API reference, "Debugging requests" (x-request-id); AWS's "Common response headers"
    (x-amzn-requestid).
    """
    name = headers.get(field)
    if name is None:
        return ""
    return name if len(name) <= REQUEST_ID_AT_MOST and name.isascii() and name.isprintable() else ""
