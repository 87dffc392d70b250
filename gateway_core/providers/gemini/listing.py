"""The models that Gemini lists. Source: https://ai.google.dev/api/models#method:-models.list."""

from typing import Any
from urllib.parse import quote

import orjson
from headgate.v1.model_pb2 import Model

from gateway_core.providers.gemini.reading import whole
from gateway_core.upstream.document import objects, text
from gateway_core.upstream.json_text import Document
from gateway_core.upstream.listing import Page

PREFIX = "models/"

KINDS = ("models/", "tunedModels/")

ANSWERS = "generateContent"

KNOWN = frozenset({"name", "inputTokenLimit", "outputTokenLimit"})

PAGE_SIZE = 1000


def page_path(token: str = "") -> str:
    """The path of a page of the list; takes what the page before it names it, and gives the first without."""
    return f"/models?pageSize={PAGE_SIZE}" + (f"&pageToken={quote(token, safe='')}" if token else "")


def page(document: Any) -> Page:
    """The models of a page that answer chats, and the path of the next page. Raises ValueError where it is none."""
    if type(document) is not dict:
        raise ValueError("it is not a JSON object")
    token = text(document, "nextPageToken")
    return [model(entry) for entry in objects(document, "models") if answers(entry)], page_path(token) if token else ""


def answers(entry: Document) -> bool:
    """Whether a model has a name, and answers chats."""
    methods = entry.get("supportedGenerationMethods")
    return bool(text(entry, "name")) and (type(methods) is not list or ANSWERS in methods)


def model(entry: Document) -> Model:
    """One model."""
    found = Model(id=text(entry, "name").removeprefix(PREFIX))
    if limit := whole(entry, "inputTokenLimit"):
        found.context_length = limit
    if limit := whole(entry, "outputTokenLimit"):
        found.max_output_tokens = limit
    extra = {name: value for name, value in entry.items() if name not in KNOWN and value is not None}
    if extra:
        found.extra_json = orjson.dumps(extra).decode()
    return found


def model_path(name: str) -> str:
    """The path of a model."""
    kind = next((kind for kind in KINDS if name.startswith(kind)), PREFIX)
    return f"/{kind}{quote(name.removeprefix(kind), safe='')}"
