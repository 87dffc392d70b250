"""A reader of server-sent events as the HTML standard says, 9.2.6: data, and the last event id at each event."""

from typing import NamedTuple


class Event(NamedTuple):
    """An event as it is dispatched."""

    data: str
    last_event_id: str


class EventSource:
    """Takes what comes, in pieces of any size; what is incomplete at the end is dropped."""

    def __init__(self, last_event_id: str = "") -> None:
        """Takes the id that the connection began with."""
        self.events: list[Event] = []
        self.last_event_id = last_event_id
        self._buffered_id = last_event_id
        self._line = b""
        self._data: list[str] = []

    def feed(self, data: bytes) -> None:
        """Reads on."""
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self._take(line.decode())

    def _take(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            self.last_event_id = self._buffered_id
            if self._data:
                self.events.append(Event("\n".join(self._data), self.last_event_id))
            self._data = []
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._buffered_id = value
