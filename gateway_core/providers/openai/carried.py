"""What the contract only carries, on its way into a request: unknown fields, and JSON that nobody here reads."""

from typing import Any

import orjson

from gateway_core.errors import InvalidRequest

Document = dict[str, Any]


class Carried:
    """Puts into a request's JSON what the contract carries as JSON text.

    Unknown fields belong to one wire format. Where that is another, they are left out and named in `left_out`, as are
    the parts and tools of kinds that only that format knows.
    """

    def __init__(self, extra_format: str) -> None:
        """Takes the wire format that the request's unknown fields belong to."""
        self._fits = extra_format in ("", "openai")
        self.left_out: dict[str, None] = {}

    def merge(self, document: Document, extra_json: str, path: str) -> Document:
        """A document with its unknown fields, which never replace what is there."""
        if extra_json:
            for name, value in json_object(extra_json, f"{path}.extra_json").items():
                if not self._fits:
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


def json_value(text: str, path: str) -> Any:
    """A value from JSON text; raises InvalidRequest where it is none."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise InvalidRequest(f"{path} is not valid JSON.", param=path) from None


def json_object(text: str, path: str) -> Document:
    """An object from JSON text; raises InvalidRequest where it is none."""
    value = json_value(text, path)
    if not isinstance(value, dict):
        raise InvalidRequest(f"{path} must be a JSON object.", param=path)
    return value
