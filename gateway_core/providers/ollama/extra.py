"""Fields that the contract only carries: put where they belong, or named where Ollama has no place for them."""

from gateway_core.upstream.json_text import Document, json_object

FORMAT = "ollama"

WISHES = frozenset({"cache_control"})
"""Unknown fields that callers write themselves where they repeat what was answered."""


class Extra:
    """The unknown fields of one request's parts, which belong to one wire format."""

    def __init__(self, extra_format: str) -> None:
        """Takes that format."""
        self._fits = extra_format == FORMAT
        self.left_out: dict[str, None] = {}
        """Paths of what Ollama is not told."""
        self.untold: dict[str, None] = {}
        """Paths of what it is not told either, and what no caller asks for: it comes with what models said earlier."""

    def merge(self, document: Document, extra_json: str, path: str) -> Document:
        """A document with its unknown fields, which never replace what is there."""
        if extra_json:
            for name, value in json_object(extra_json, f"{path}.extra_json").items():
                if self._fits:
                    document.setdefault(name, value)
                else:
                    self.left_out[f"{path}.{name}"] = None
        return document

    def recall(self, document: Document, extra_json: str, path: str) -> Document:
        """A part of an earlier answer with its unknown fields: those of other formats came with it, but for marks."""
        if self._fits or not extra_json:
            return self.merge(document, extra_json, path)
        for name, value in json_object(extra_json, f"{path}.extra_json").items():
            if value:  # answers tell of empty lists too
                (self.left_out if name in WISHES else self.untold)[f"{path}.{name}"] = None
        return document

    def leave_out(self, extra_json: str, path: str) -> None:
        """Names unknown fields that have no place whatever their format is."""
        if extra_json:
            for name in json_object(extra_json, f"{path}.extra_json"):
                self.left_out[f"{path}.{name}"] = None
