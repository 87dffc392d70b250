"""What hosts call one request, as they want to be told when asked about it."""

REQUEST_ID_AT_MOST = 200
"""Characters that a host's name of a request may have."""


def name_of_attempt(name: str) -> str:
    """What a host calls the request, as its answer tells. Empty: nothing that is short text.

    Sources: OpenAI's API reference, "Debugging requests" (x-request-id); AWS's "Common response headers"
    (x-amzn-requestid).
    """
    return name if name and len(name) <= REQUEST_ID_AT_MOST and name.isascii() and name.isprintable() else ""
