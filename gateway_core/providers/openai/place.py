"""Which call a piece of a tool call belongs to, for hosts that number them badly or not at all."""

from typing import Any

from gateway_core.providers.openai.reading import INT32, whole


class Places:
    """Numbers the tool calls of one stream as OpenAI does: each call has a number of its own, all its pieces have it.

    A host that gives no number is read by id, then by name: a new id, or a name without an id, begins a call, and a
    piece with neither adds to the last one. Where a number comes again with another id and a name, another call
    begins: hosts exist that number all calls 0.
    """

    def __init__(self) -> None:
        """Starts without calls."""
        self._choices: dict[int, _Calls] = {}

    def number(self, document: Any) -> None:
        """Sets the index of each tool call in a decoded answer or chunk."""
        choices = document.get("choices") if type(document) is dict else None
        if type(choices) is not list:
            return
        for position, choice in enumerate(choices):
            said = (choice.get("delta") or choice.get("message")) if type(choice) is dict else None
            calls = said.get("tool_calls") if type(said) is dict else None
            if calls and type(calls) is list:
                index = whole(choice.get("index"), INT32)
                known = self._choices.setdefault(position if index is None else index, _Calls())
                for call in calls:
                    if type(call) is dict:
                        call["index"] = known.place(call)


class _Calls:
    """The tool calls of one choice."""

    def __init__(self) -> None:
        self._ids: dict[int, str] = {}  # by place; empty where the call has no id
        self._places_by_index: dict[int, int] = {}
        self._last = -1

    def place(self, call: dict[str, Any]) -> int:
        index, identity = whole(call.get("index"), INT32), call.get("id")
        identity = identity if type(identity) is str else ""
        called = call.get("function") or call.get("custom")
        is_named = bool(type(called) is dict and called.get("name"))
        place = self._by_identity(identity, is_named) if index is None else self._by_index(index, identity, is_named)
        self._ids[place] = self._ids.get(place) or identity
        self._last = place
        return place

    def _by_identity(self, identity: str, is_named: bool) -> int:
        if identity:
            return next((place for place, known in self._ids.items() if known == identity), self._free())
        return self._free() if is_named or self._last < 0 else self._last

    def _by_index(self, index: int, identity: str, is_named: bool) -> int:
        place = self._places_by_index.get(index)
        if place is None:
            place = self._free() if index in self._ids else index
        elif is_named and identity and self._ids[place] and identity != self._ids[place]:
            place = self._free()
        self._places_by_index[index] = place
        return place

    def _free(self) -> int:
        return max(self._ids, default=-1) + 1
