"""What the contract only carries, on its way into a request: unknown fields, and JSON that nobody here reads."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import orjson

from gateway_core.errors import InvalidRequest
from gateway_core.upstream.depth import DEEPEST, is_within

Document = dict[str, Any]
Item = TypeVar("Item")


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
    """A value from JSON text; raises InvalidRequest where it is none, or one that nests too deep."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise InvalidRequest(f"{path} is not valid JSON.", param=path) from None
    if not is_within(text, value):
        raise InvalidRequest(f"{path} nests deeper than {DEEPEST} arrays and objects.", param=path)
    return value


def documents(items: Iterable[Item], name: str, write: Callable[[Item], list[Any]]) -> list[Any]:
    """What is written for the items of a list, one after the other; InvalidRequest names the item at fault."""
    written: list[Any] = []
    for index, item in enumerate(items):
        try:
            written += write(item)
        except InvalidRequest as error:
            raise placed(error, name, index) from None
    return written


def placed(error: InvalidRequest, name: str, index: int) -> InvalidRequest:
    """An error that names a list, as one that names an item of it."""
    place = f"{name}[{index}]"
    path = error.metadata["param"].replace(name, place, 1)
    return InvalidRequest(error.message.replace(name, place, 1), param=path)


def json_object(text: str, path: str) -> Document:
    """An object from JSON text; raises InvalidRequest where it is none."""
    value = json_value(text, path)
    if not isinstance(value, dict):
        raise InvalidRequest(f"{path} must be a JSON object.", param=path)
    return value
