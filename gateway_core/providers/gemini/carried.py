"""What a request says beyond the contract's fields, on its way into Gemini's JSON: put in, left out, or said anew."""

from typing import Any

from gateway_core.upstream.json_text import Document, json_object, json_value

FORMAT = "gemini"
"""The wire format whose unknown fields are carried."""

REASONING = "google-gemini-v1"
"""What OpenRouter calls the form of Gemini's reasoning details."""

WISHES = frozenset({"cache_control"})
"""Unknown fields that callers write themselves where they repeat what was answered."""

EMPTY: tuple[object, ...] = (None, [], {}, "")


class Carried:
    """Puts in what belongs to Gemini's wire format, and keeps the names of what belongs to another and says anything.

    `changed` has what was put in other words, by name, and `untold` the names of what came with an earlier answer and
    is not taken back: nobody's wish, so that no call is refused for it.
    """

    def __init__(self, extra_format: str) -> None:
        """Takes the wire format that the request's unknown fields belong to."""
        self.fits = extra_format == FORMAT
        self.left_out: dict[str, None] = {}
        self.untold: dict[str, None] = {}
        self.changed: dict[str, str] = {}

    def leave(self, path: str) -> None:
        """Names something that has no place."""
        self.left_out[path] = None

    def forget(self, extra_json: str, path: str) -> None:
        """Names the unknown fields of an earlier answer, which have no place; but marks for a cache are wishes."""
        if extra_json:
            for name, value in json_object(extra_json, f"{path}.extra_json").items():
                if name in WISHES:
                    self.leave(f"{path}.{name}")
                elif value not in EMPTY:
                    self.untold[f"{path}.{name}"] = None

    def merge(self, document: Document, extra_json: str, path: str) -> Document:
        """A document with its unknown fields, which never replace what is there."""
        if extra_json:
            for name, value in json_object(extra_json, f"{path}.extra_json").items():
                if self.fits:
                    document.setdefault(name, value)
                elif value not in EMPTY:
                    self.leave(f"{path}.{name}")
        return document

    def whole(self, other_json: str, path: str) -> list[Any]:
        """What is carried whole, as the only item of a list; an empty list where it is left out."""
        if self.fits:
            return [json_value(other_json, f"{path}.other_json")]
        self.leave(path)
        return []
