"""The JSON objects that hosts answer, whole or event by event, and readers of fields that nobody has checked."""

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


def text(document: Document, name: str) -> str:
    """A text; empty where there is none. Raises ValueError for another type, as all of these."""
    value = document.get(name)
    if value is None:
        return ""
    if type(value) is not str:
        raise ValueError(f"its {name} is not a text")
    return value


def inner(document: Document, name: str) -> Document:
    """An object; empty where there is none."""
    value = document.get(name)
    if value is None:
        return {}
    if type(value) is not dict:
        raise ValueError(f"its {name} is not an object")
    return value


def objects(document: Document, name: str) -> list[Document]:
    """A list of objects; empty where there is none."""
    value = document.get(name)
    if value is None:
        return []
    if type(value) is not list or any(type(item) is not dict for item in value):
        raise ValueError(f"its {name} are not a list of objects")
    return value
