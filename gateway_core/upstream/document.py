"""The JSON objects that hosts answer: whole answers, and the events of streamed ones."""

import orjson

from gateway_core.upstream.depth import DEEPEST, SHORT, is_within
from gateway_core.upstream.json_text import Document
from gateway_core.upstream.refusal import Refusals


def document_of(data: bytes, refusals: Refusals) -> Document:
    """The object that a host answers. Raises ProviderError where it is none, nests too deep, or tells of an error."""
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise refusals.broken("sent an answer that is not JSON") from None
    if type(document) is not dict:
        raise refusals.broken("sent an answer that is not a JSON object")
    # Nearly every event is short: that is asked here, and spares it a call.
    if len(data) > SHORT and not is_within(data, document):
        raise refusals.broken(f"sent an answer that nests deeper than {DEEPEST} arrays and objects")
    if document.get("error"):
        raise refusals.event(document["error"])
    return document
