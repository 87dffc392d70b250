"""Which call a piece of a tool call belongs to, for hosts that number them badly or not at all."""

from typing import Any

from gateway_core.providers.openai.reading import INT32, whole

FUNCTION_CALL = -1
"""Stands for the place of the one call in the form before tools."""


class Places:
    """Numbers the tool calls of one stream as OpenAI does: each call has a number of its own, all its pieces have it.

    A host that gives no number is read by id, then by name: a new id, or a name without an id, begins a call, and a
    piece with neither adds to the last one. Where a number comes again with another id and a name, another call
    begins: hosts exist that number all calls 0. What a host says again of a call, its id or its name, is left out.
    """

    def __init__(self) -> None:
        """Starts without calls."""
        self._choices: dict[int, _Calls] = {}

    def number(self, document: Any) -> None:
        """Sets the index of each tool call in a decoded answer or chunk, and leaves out what is said again."""
        choices = document.get("choices") if type(document) is dict else None
        if type(choices) is not list:
            return
        for position, choice in enumerate(choices):
            if type(choice) is not dict:
                continue
            if delta := choice.get("delta"):
                index = whole(choice.get("index"), INT32)
                self._number_pieces(delta, position if index is None else index)
            elif message := choice.get("message"):
                for place, call in enumerate(objects_in(message, "tool_calls")):
                    call["index"] = place

    def _number_pieces(self, delta: Any, index: int) -> None:
        """Numbers what a chunk adds to the calls of one choice."""
        if type(delta) is not dict or not (delta.get("tool_calls") or delta.get("function_call")):
            return
        known = self._choices.setdefault(index, _Calls())
        known.name_once(FUNCTION_CALL, delta.get("function_call"))
        for call in objects_in(delta, "tool_calls"):
            call["index"] = known.place(call)


def objects_in(document: Any, name: str) -> list[dict[str, Any]]:
    """The objects of a list in an object; none where there is no such list."""
    found = document.get(name) if type(document) is dict else None
    return [item for item in found if type(item) is dict] if type(found) is list else []


class _Calls:
    """The tool calls of one choice."""

    def __init__(self) -> None:
        self._ids: dict[int, str] = {}  # by place; empty where the call has no id
        self._names: dict[int, str] = {}  # by place
        self._places_by_index: dict[int, int] = {}
        self._last = -1

    def place(self, call: dict[str, Any]) -> int:
        index, identity = whole(call.get("index"), INT32), call.get("id")
        identity = identity if type(identity) is str else ""
        called = call.get("function") or call.get("custom")
        is_named = bool(type(called) is dict and called.get("name"))
        place = self._by_identity(identity, is_named) if index is None else self._by_index(index, identity, is_named)
        if identity and self._ids.get(place) == identity:
            del call["id"]
        self._ids[place] = self._ids.get(place) or identity
        self._last = place
        self.name_once(place, called)
        return place

    def name_once(self, place: int, called: Any) -> None:
        """Leaves out of a call's piece a name that was told before."""
        name = called.get("name") if type(called) is dict else None
        if not name or type(name) is not str:
            return
        known = self._names.setdefault(place, "")
        if known == name:
            del called["name"]
        self._names[place] = known or name

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
