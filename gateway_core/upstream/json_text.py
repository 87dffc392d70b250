"""JSON text in a request, read for its provider: whatever is wrong with it is the caller's to know, by its path."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import orjson

from gateway_core.errors import InvalidRequest
from gateway_core.upstream.depth import DEEPEST, is_within, value_within

Document = dict[str, Any]
Item = TypeVar("Item")


def json_value(text: str, path: str) -> Any:
    """A value from JSON text; raises InvalidRequest where it is none, or one that nests too deep."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise InvalidRequest(f"{path} is not valid JSON.", param=path) from None
    if not is_within(text, value):
        raise InvalidRequest(f"{path} nests deeper than {DEEPEST} arrays and objects.", param=path)
    return value


def json_object(text: str, path: str) -> Document:
    """An object from JSON text; raises InvalidRequest where it is none."""
    value = json_value(text, path)
    if not isinstance(value, dict):
        raise InvalidRequest(f"{path} must be a JSON object.", param=path)
    return value


def given_arguments(text: str) -> Document:
    """The arguments of an earlier call of a tool, for formats that have them as an object.

    A model may have written what is none, or had no room for the end of it: it is said as a text, so that the
    conversation can go on.
    """
    try:
        value = value_within(text) if text.strip() else {}
    except ValueError:
        value = None
    return value if type(value) is dict else {"INVALID_JSON": text}


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
