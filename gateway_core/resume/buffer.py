"""The chunks of a stream that are kept, serialized, because those who read them may be long in coming."""

from collections import deque

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk

from gateway_core.resume.begun import Begun

OVERHEAD_BYTES = 48
"""Of a chunk, beside its serialized bytes: the object that holds them, and its place."""


class Buffer:
    """Chunks from `first` to `last`, by their positions in the answer, which count from 1."""

    def __init__(self) -> None:
        """Begins empty."""
        self._chunks: deque[bytes] = deque()
        self._begun = Begun()
        self.last = 0
        """Position of the last chunk; 0 where there was none."""
        self.size = 0
        """In bytes, of memory."""

    @property
    def first(self) -> int:
        """Position of the first chunk that is kept; one above `last` where none is."""
        return self.last - len(self._chunks) + 1

    def append(self, chunk: ChatCompletionChunk) -> None:
        """Adds the next one."""
        data = chunk.SerializeToString()
        self._chunks.append(data)
        self.last += 1
        self.size += len(data) + OVERHEAD_BYTES

    def chunk(self, position: int) -> ChatCompletionChunk:
        """The chunk at a position that is kept."""
        return ChatCompletionChunk.FromString(self._chunks[position - self.first])

    def data(self, position: int) -> bytes:
        """The chunk at a position that is kept, serialized."""
        return self._chunks[position - self.first]

    def size_of(self, position: int) -> int:
        """What the chunk at a position that is kept takes of `size`."""
        return len(self._chunks[position - self.first]) + OVERHEAD_BYTES

    def forget(self, up_to: int, size: int) -> None:
        """Lets go of the oldest chunks, none beyond the position `up_to`, until no more than `size` bytes are left."""
        while self.size > size and self.first <= up_to:
            data = self._chunks.popleft()
            self.size -= len(data) + OVERHEAD_BYTES
            self._begun.add(ChatCompletionChunk.FromString(data))

    def begun(self, up_to: int) -> ChatCompletionChunk:
        """What was begun up to a position, which is no earlier than the one before `first`."""
        begun = self._begun.copy()
        for position in range(self.first, up_to + 1):
            begun.add(self.chunk(position))
        return begun.chunk
