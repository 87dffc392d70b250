"""The events of a stream with ids, from which a caller that lost its connection goes on.

Source: the HTML standard, "Server-sent events" (https://html.spec.whatwg.org/multipage/server-sent-events.html): the id
of an event stays the last event id until another event has one, and a client that connects again sends it as
Last-Event-ID. A client connects again after every end of a stream but 204 and failures.
"""

import re
from typing import Literal, NamedTuple

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk

from rest_bridge.dialects.openai.event import EventWriter
from rest_bridge.dialects.openai.response import ChunkWriter
from rest_bridge.sse import event

DONE = event(b"[DONE]")
# Where a process has workers, the number of a stream begins with that of its worker: "3w1f".
STREAM_ID = r"[a-z0-9]{1,63}-(?:[0-9]{1,12}w)?[0-9a-f]{1,16}-[0-9a-f]{32}"
EVENT_ID = re.compile(rf"({STREAM_ID})\.([0-9]{{1,18}})(?:\.(end|done))?")


class Place(NamedTuple):
    """Where in a stream its caller stands: what an event's id says.

    "ID.7": behind all events of the chunks up to the seventh, but for one that is held back until the stream ends.
    "ID.7.end": behind that one too. "ID.7.done": behind the end of the stream.
    """

    id: str
    sequence: int = 0
    mark: Literal["", "end", "done"] = ""

    @classmethod
    def parse(cls, text: str) -> "Place | None":
        """What an event's id says. None: it is none of these."""
        found = EVENT_ID.fullmatch(text)
        if found is None:
            return None
        mark = found[3] or ""
        return cls(found[1], int(found[2]), "end" if mark == "end" else "done" if mark else "")

    def line(self) -> bytes:
        """The line of an event that gives it this id."""
        mark = f".{self.mark}" if self.mark else ""
        return f"id: {self.id}.{self.sequence}{mark}\n".encode("ascii")


class NumberedWriter:
    """Writes the chunks of one stream as events with ids; without an id of the stream, as events without."""

    def __init__(self, writer: EventWriter, identity: str, sequence: int = 0) -> None:
        """Takes what writes the events, and the position of the last chunk that was written already."""
        self._writer = writer
        self._id = identity
        self._sequence = sequence

    def write(self, sequence: int, chunk: ChatCompletionChunk) -> bytes:
        """The events to send for a chunk at its position."""
        before, self._sequence = self._sequence, sequence
        written = parted(self._writer.write(chunk))
        if not self._id or not written:
            return b"".join(written)
        # Two come where the first is one that was held back until now.
        *held, last = written
        lines = [Place(self._id, before, "end").line() + each for each in held]
        return b"".join([*lines, Place(self._id, sequence).line(), last])

    def finish(self) -> bytes:
        """The events to send when the stream has ended well."""
        written = parted(self._writer.finish())
        if not self._id:
            return b"".join([*written, DONE])
        lines = [Place(self._id, self._sequence, "end").line() + each for each in written]
        return b"".join([*lines, Place(self._id, self._sequence, "done").line(), DONE])

    def fail(self, document: bytes, *, is_final: bool) -> bytes:
        """The event of an error document; `is_final`: that nothing is left to go on with."""
        line = Place(self._id, self._sequence, "done").line() if self._id and is_final else b""
        return line + event(document)


def parted(written: bytes) -> list[bytes]:
    """Events, one by one: their documents have no line breaks."""
    return [each + b"\n\n" for each in written.split(b"\n\n")[:-1]]


def caught_up(chunks: ChunkWriter, begun: ChatCompletionChunk, place: Place) -> None:
    """Brings a writer to where one stands that has written a stream up to a place; takes what was begun by then."""
    ended = ChatCompletionChunk()
    ended.CopyFrom(begun)
    del ended.choices[:]
    started = ChatCompletionChunk()
    started.CopyFrom(begun)
    started.ClearField("usage")
    started.ClearField("extra_json")
    for choice in started.choices:
        if choice.HasField("finish_reason"):
            ended.choices.add(index=choice.index, finish_reason=choice.finish_reason, extra_json=choice.extra_json)
        choice.ClearField("finish_reason")
        choice.ClearField("extra_json")
    for chunk in (started, ended):
        chunks.write(chunk)
    if place.mark:
        chunks.drop_held()
