"""What the contract only carries, on its way into a request: unknown fields, and JSON that nobody here reads."""

from typing import Any

from gateway_core.upstream.json_text import Document, json_object, json_value

ALIEN = frozenset({"anthropic_content", "google_parts"})
"""Fields in which answers of other vendors bring what only those understand."""


class Carried:
    """Puts into a request's JSON what the contract carries as JSON text.

    Unknown fields belong to one wire format. Where that is another, they are left out and named in `left_out`, as are
    the parts and tools of kinds that only that format knows.
    """

    __slots__ = ("_fits", "left_out", "untold")

    def __init__(self, extra_format: str) -> None:
        """Takes the wire format that the request's unknown fields belong to."""
        self._fits = extra_format in ("", "openai")
        self.left_out: dict[str, None] = {}
        self.untold: dict[str, None] = {}
        """Paths of what came with other vendors' answers, so that it is nobody's wish."""

    def merge(self, document: Document, extra_json: str, path: str) -> Document:
        """A document with its unknown fields, which never replace what is there."""
        if extra_json:
            for name, value in json_object(extra_json, f"{path}.extra_json").items():
                if name in ALIEN:
                    self.untold[f"{path}.{name}"] = None
                elif not self._fits:
                    self.left_out[f"{path}.{name}"] = None
                elif name not in document:
                    document[name] = value
        return document

    def whole(self, other_json: str, path: str) -> list[Any]:
        """What is carried whole, as the only item of a list; an empty list where it is left out."""
        if self._fits:
            return [json_value(other_json, f"{path}.other_json")]
        self.left_out[path] = None
        return []
