"""What becomes of the parts of a request that Anthropic's format has no word for: left out or changed, and told."""

from typing import Any

from gateway_core.upstream.json_text import Document, json_object, json_value

FORMAT = "anthropic"

UNTAKEN = "the provider {} does not take it"

SHARED = frozenset({"cache_control"})
"""Anthropic's fields that callers of other formats write beside what they are about."""


class Carried:
    """Collects, while a request is written, what is left out of it or changed.

    Unknown fields belong to one wire format. Where that is another, they are left out, as are the parts and tools of
    kinds that only that format knows.
    """

    def __init__(self, extra_format: str) -> None:
        """Takes the wire format that the request's unknown fields belong to."""
        self._fits = extra_format == FORMAT
        self.left_out: dict[str, str] = {}
        """What was left out, and why; {} stands for the provider's name."""
        self.untold: dict[str, str] = {}
        """What came with an earlier answer and is not taken back, and why: nobody's wish, so that none is refused."""
        self.changed: dict[str, str] = {}
        """What was changed, and how."""
        self.betas: dict[str, None] = {}
        """Names of what is not part of the API for everybody, and is needed."""

    def leave_out(self, name: str, because: str = UNTAKEN) -> None:
        """Notes that something was left out."""
        self.left_out.setdefault(name, because)

    def change(self, name: str, how: str) -> None:
        """Notes that something was changed."""
        self.changed.setdefault(name, how)

    def forget(self, name: str, because: str = UNTAKEN) -> None:
        """Notes that something of an earlier answer was left out."""
        self.untold.setdefault(name, because)

    def recall(self, document: Document, extra_json: str, path: str) -> Document:
        """A part of an earlier answer with its unknown fields; those of other formats came with it."""
        if extra_json and not self._fits:
            extra = json_object(extra_json, f"{path}.extra_json")
            for name, value in extra.items():
                if name in SHARED:
                    document.setdefault(name, value)
                elif value:  # answers tell of empty lists too
                    self.forget(f"{path}.{name}")
            return document
        return self.merge(document, extra_json, path)

    def merge(self, document: Document, extra_json: str, path: str) -> Document:
        """A document with its unknown fields, which never replace what is there."""
        if extra_json:
            for name, value in json_object(extra_json, f"{path}.extra_json").items():
                if not self._fits and name not in SHARED:
                    self.leave_out(f"{path}.{name}")
                elif name not in document:
                    document[name] = value
        return document

    def whole(self, other_json: str, path: str) -> list[Any]:
        """What is carried whole, as the only item of a list; an empty list where it is left out."""
        if self._fits:
            return [json_value(other_json, f"{path}.other_json")]
        self.leave_out(path)
        return []
