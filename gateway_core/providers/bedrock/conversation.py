"""A conversation: the contract becomes Converse's `system` and `messages`.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Message.html
"""

from collections.abc import Iterable, Iterator

from headgate.v1 import message_pb2
from headgate.v1.message_pb2 import ChatMessage, ContentPart, ToolCall

from gateway_core.call import Rewrite
from gateway_core.errors import InvalidRequest
from gateway_core.providers.bedrock import media
from gateway_core.providers.bedrock.thought import reasoning_blocks
from gateway_core.providers.bedrock.tool import tool_use, tool_use_id
from gateway_core.providers.bedrock.written import Written, cache_point
from gateway_core.upstream.json_text import Document

SYSTEM = frozenset({message_pb2.ROLE_SYSTEM, message_pb2.ROLE_DEVELOPER})

MOVED = "instructions that stand after the first turn were put before it, Bedrock takes them there only"


class Conversation:
    """Writes a conversation, in which user and assistant take turns: what one says in several messages is joined."""

    def __init__(self, written: Written, *, takes_signed: bool = True) -> None:
        """Takes what learns of all that is left out, and whether the model takes thoughts of Claude's back."""
        self._written = written
        self._takes_signed = takes_signed
        self.system: list[Document] = []
        self.messages: list[Document] = []
        self.tools: dict[str, None] = {}
        """Names of the tools that were called."""
        self._documents = 0

    def add(self, messages: Iterable[ChatMessage]) -> None:
        """Writes messages; raises InvalidRequest for what Converse cannot take."""
        for index, message in enumerate(messages):
            self._add(message, f"messages[{index}]")

    def say(self, role: str, blocks: list[Document]) -> None:
        """Puts blocks at the end of the conversation."""
        if not blocks:
            return
        if self.messages and self.messages[-1]["role"] == role:
            self.messages[-1]["content"] += blocks
        else:
            self.messages.append({"role": role, "content": blocks})

    def _add(self, message: ChatMessage, path: str) -> None:
        if message.HasField("name"):
            self._written.leave_out(f"{path}.name")
        if message.HasField("audio"):
            self._written.forget(f"{path}.audio")
        is_answer = message.role == message_pb2.ROLE_ASSISTANT
        point = self._written.extra(message.extra_json, path, is_answer=is_answer)
        match message.role:
            case message_pb2.ROLE_SYSTEM | message_pb2.ROLE_DEVELOPER:
                if self.messages and not any(rewrite.reason == MOVED for rewrite in self._written.rewrites):
                    self._written.rewrites.append(Rewrite("messages", MOVED))
                self.system += marked(list(self._blocks(message, path)), point)
            case message_pb2.ROLE_USER:
                self.say("user", marked(list(self._blocks(message, path)), point))
            case message_pb2.ROLE_ASSISTANT:
                self.say("assistant", marked(self._answer(message, path), point))
            case message_pb2.ROLE_TOOL:
                self.say("user", marked(self._result(message, path), point))
            case _:
                raise InvalidRequest(f"{path}.role cannot be told to Bedrock.", param=f"{path}.role")

    def _answer(self, message: ChatMessage, path: str) -> list[Document]:
        """What the assistant thought, said and called."""
        blocks = reasoning_blocks(message, path, self._written, takes_signed=self._takes_signed)
        blocks += self._blocks(message, path)
        if message.refusal:
            blocks.append({"text": message.refusal})
        if message.HasField("function_call"):
            self._written.leave_out(f"{path}.function_call")
        for index, call in enumerate(message.tool_calls):
            blocks += self._call(call, f"{path}.tool_calls[{index}]")
        return blocks

    def _call(self, call: ToolCall, path: str) -> list[Document]:
        self._written.extra(call.extra_json, path, is_answer=True)
        block = tool_use(call, path)
        if block is None:
            self._written.leave_out(path)
            return []
        self.tools[block["name"]] = None
        return [{"toolUse": block}]

    def _result(self, message: ChatMessage, path: str) -> list[Document]:
        """The result of a call, and the mark of the prompt cache after it where there is one in it."""
        blocks = list(self._blocks(message, path))
        content = [block for block in blocks if "cachePoint" not in block]
        result = {"toolUseId": tool_use_id(message.tool_call_id), "content": content}
        return [{"toolResult": result}, *[block for block in blocks if "cachePoint" in block][-1:]]

    def _blocks(self, message: ChatMessage, path: str) -> Iterator[Document]:
        """The content of a message. Blank texts are left out: Bedrock refuses them."""
        if message.HasField("text"):
            if message.text.strip():
                yield {"text": message.text}
            return
        for index, part in enumerate(message.parts.parts):
            place = f"{path}.content[{index}]"
            block = self._block(part, place, is_instruction=message.role in SYSTEM)
            if block is not None:
                yield block
            point = self._written.extra(part.extra_json, place)
            if part.HasField("prompt_cache_breakpoint"):
                point = cache_point(part.prompt_cache_breakpoint.ttl)
            if point is not None and block is not None:
                yield point

    def _block(self, part: ContentPart, path: str, *, is_instruction: bool) -> Document | None:
        kind = part.WhichOneof("part")
        match kind:
            case "text" | "refusal":
                text = part.text or part.refusal
                return {"text": text} if text.strip() else None
            case None | "other_json":
                self._written.leave_out(path)
                return None
        place = f"{path}.{kind}"
        if is_instruction:
            raise InvalidRequest(f"{place} cannot be an instruction.", param=place)
        self._written.extra(getattr(part, kind).extra_json, place)
        match kind:
            case "image_url":
                return media.image(part.image_url.url, place)
            case "video_url":
                return media.video(part.video_url.url, place)
            case "input_audio":
                return media.audio(part.input_audio)
            case _:
                return self._document(part, place)

    def _document(self, part: ContentPart, path: str) -> Document:
        """A document, whose name no other has: Bedrock refuses a name that comes twice."""
        block = media.document(part.file, path)
        self._documents += 1
        if self._documents > 1:
            block["document"]["name"] = f"{block['document']['name'][: media.NAME_AT_MOST - 8]} ({self._documents})"
        return block


def marked(blocks: list[Document], point: Document | None) -> list[Document]:
    """Blocks with the mark of the prompt cache that stands after them, if there is one."""
    return [*blocks, point] if point is not None and blocks else blocks
