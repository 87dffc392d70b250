"""What the chunks of a stream have begun: what somebody must know who writes it on without having seen them."""

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk, ChunkChoice
from headgate.v1.message_pb2 import ToolCall

HEAD = ("id", "created", "model")
HEAD_WHERE_TOLD = ("service_tier", "system_fingerprint")


class Begun:
    """Grows with the choices and tool calls of an answer, not with its length."""

    def __init__(self) -> None:
        """Begins before the first chunk."""
        self.chunk = ChatCompletionChunk()
        """As `begun` of ResumedStream says."""

    def copy(self) -> "Begun":
        """Another one that stands where this one does."""
        other = Begun()
        other.chunk.CopyFrom(self.chunk)
        return other

    def add(self, chunk: ChatCompletionChunk) -> None:
        """Takes note of the next chunk."""
        begun = self.chunk
        for name in HEAD:
            setattr(begun, name, getattr(chunk, name) or getattr(begun, name))
        for name in HEAD_WHERE_TOLD:
            if chunk.HasField(name):
                setattr(begun, name, getattr(chunk, name))
        if chunk.HasField("usage"):
            begun.usage.CopyFrom(chunk.usage)
        if any(choice.HasField("finish_reason") for choice in chunk.choices):
            begun.extra_json = chunk.extra_json
            for earlier in begun.choices:
                earlier.ClearField("finish_reason")
                earlier.ClearField("extra_json")
        for choice in chunk.choices:
            self._add_choice(choice)

    def _add_choice(self, choice: ChunkChoice) -> None:
        own = next((each for each in self.chunk.choices if each.index == choice.index), None)
        if own is None:
            own = self.chunk.choices.add(index=choice.index)
            own.delta.SetInParent()
        if choice.delta.role:
            own.delta.role = choice.delta.role
        for call in choice.delta.tool_calls:
            if all(each.index != call.index for each in own.delta.tool_calls):
                own.delta.tool_calls.append(ToolCall(index=call.index))
        if choice.HasField("finish_reason"):
            own.finish_reason = choice.finish_reason
            own.extra_json = choice.extra_json
