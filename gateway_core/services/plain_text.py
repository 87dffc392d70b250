"""What no text of an administrative request may hold, wherever it stands: databases differ in whether they take it."""

from collections.abc import Iterator

from google.protobuf.message import Message

from gateway_core.errors import InvalidRequest

SHOWN_CHARACTERS = 100
"""Of a name in a map, which the caller chose."""


def check_texts(request: Message) -> None:
    """Raises InvalidRequest, which names the field, for a text with a NUL character: PostgreSQL has none."""
    for path, text in texts(request, ""):
        if "\0" in text:
            raise InvalidRequest(f"{path} must not hold a NUL character.", param=path)


def texts(message: Message, within: str) -> Iterator[tuple[str, str]]:
    """Every text that is set in a message, with the path of its field."""
    for field, value in message.ListFields():
        path = f"{within}{field.name}"
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for name in value:
                yield path, name
                yield from texts_of(value[name], f"{path}.{name[:SHOWN_CHARACTERS]}")
        elif field.is_repeated:
            for index, each in enumerate(value):
                yield from texts_of(each, f"{path}[{index}]")
        else:
            yield from texts_of(value, path)


def texts_of(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Those of one value."""
    if isinstance(value, Message):
        yield from texts(value, f"{path}.")
    elif isinstance(value, str):
        yield path, value
