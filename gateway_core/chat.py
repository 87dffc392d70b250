"""What a request for a chat asks: read once, for all who look at it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from headgate.v1.chat_pb2 import ChatCompletionSpec

from gateway_core.call import Call
from gateway_core.turn import Turn, turns_of

# Asking a descriptor takes longer than finding its name here.
NAMES = {field: field.name for field in ChatCompletionSpec.DESCRIPTOR.fields}


class Chat:
    """A request that has been read. Neither that nor this changes any more."""

    __slots__ = ("_make", "_spec", "fields", "turns")

    def __init__(
        self,
        fields: Mapping[str, Any],
        turns: Sequence[Turn],
        spec: ChatCompletionSpec | None,
        make: Callable[[], ChatCompletionSpec] | None = None,
    ) -> None:
        """Takes what has been read, and of what; or what makes a request of it if somebody asks for that."""
        self.fields = fields
        """The values of the fields that are set, by their names; of the messages their turns."""
        self.turns = turns
        """The messages, one by one."""
        self._make = make
        self._spec = spec

    @property
    def spec(self) -> ChatCompletionSpec:
        """The request itself."""
        if self._spec is None:
            assert self._make is not None, "it was read of the request, or says how one is made of it"
            self._spec = self._make()
        return self._spec


def read(spec: ChatCompletionSpec, turns: Sequence[Turn] | None = None) -> Chat:
    """Reads a request, with its turns where they are known already."""
    fields = {}
    for field, value in spec.ListFields():  # no comprehension: that is a call
        fields[NAMES[field]] = value
    if turns is None:
        turns = turns_of(fields["messages"]) if "messages" in fields else ()
    if turns:
        fields["messages"] = turns
    return Chat(fields, turns, spec)


def chat_of(call: Call[ChatCompletionSpec]) -> Chat:
    """What a call asks."""
    chat: Chat | None = call.reading
    if chat is None:
        chat = call.reading = read(call.request)
    return chat
