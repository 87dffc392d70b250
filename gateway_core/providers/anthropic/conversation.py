"""The conversation, in turns as Anthropic's format has them: instructions apart, one turn after the other's.

Sources: https://platform.claude.com/docs/en/api/messages/create (MessageParam),
https://platform.claude.com/docs/en/build-with-claude/mid-conversation-system-messages (where instructions may stand).
"""

from collections.abc import Sequence
from typing import Any

import orjson
from headgate.v1 import message_pb2
from headgate.v1.message_pb2 import ChatMessage

from gateway_core.providers.anthropic.carried import Carried
from gateway_core.providers.anthropic.content import blocks
from gateway_core.providers.anthropic.facts import Facts
from gateway_core.providers.anthropic.message import assistant_blocks, mark, plain, tool_result
from gateway_core.upstream.json_text import Document

INSTRUCTIONS = frozenset({message_pb2.ROLE_SYSTEM, message_pb2.ROLE_DEVELOPER})
RESULTS = frozenset({message_pb2.ROLE_TOOL, message_pb2.ROLE_FUNCTION})

AS_USER = "instructions that stand there are given as the user's words"


class Conversation:
    """Collects the instructions, and the turns: what one side says in several messages is one turn."""

    def __init__(self, carried: Carried, facts: Facts) -> None:
        """Takes what collects what is left out, and what the model takes."""
        self._carried = carried
        self._facts = facts
        self._system: list[Any] = []
        self._turns: list[Document] = []

    def add(self, message: ChatMessage, next_role: int | None, path: str) -> None:
        """Takes the next message; and who speaks in the first after it that is no instruction (None: nobody)."""
        if message.role in INSTRUCTIONS:
            self._instruct(self._marked(message, path), next_role, path)
        elif message.role == message_pb2.ROLE_ASSISTANT:
            self._say("assistant", assistant_blocks(message, self._carried, path))
        elif message.role in RESULTS:
            self._answer(tool_result(message, self._carried, path))
        else:
            if message.name:
                self._carried.leave_out(f"{path}.name")
            self._say("user", self._marked(message, path))

    def prefill(self, text: str) -> None:
        """Takes the beginning of the answer."""
        if text.strip():
            self._say("assistant", [{"type": "text", "text": text}])

    def document(self) -> Document:
        """The instructions, where there are any, and the turns."""
        if not self._turns and self._system:
            self._carried.change("messages", AS_USER)
            self._say("user", self._system)
            self._system = []
        self._end_visibly()
        document: Document = {}
        if self._system:
            document["system"] = plain(self._system)
        document["messages"] = [{"role": turn["role"], "content": plain(turn["content"])} for turn in self._turns]
        return document

    def _marked(self, message: ChatMessage, path: str) -> list[Any]:
        found = blocks(message, self._carried, path)
        if found and message.extra_json:
            mark(found[-1], orjson.loads(message.extra_json), self._carried, path)
        return found

    def _say(self, role: str, said: list[Any]) -> None:
        if not said:
            return
        if self._turns and self._turns[-1]["role"] == role:
            self._turns[-1]["content"] += said
        else:
            self._turns.append({"role": role, "content": said})

    def _instruct(self, said: list[Any], next_role: int | None, path: str) -> None:
        if not self._turns:
            self._system += said
        elif (
            self._facts.takes_late_instructions
            and self._turns[-1]["role"] in ("user", "system")
            and next_role in (None, message_pb2.ROLE_ASSISTANT)
        ):
            self._say("system", said)
        elif said:
            self._carried.change(f"{path}.role", AS_USER)
            self._say("user", said)

    def _answer(self, result: Document) -> None:
        """Results of tools stand before anything else that a turn says."""
        if self._turns and self._turns[-1]["role"] == "user":
            content = self._turns[-1]["content"]
            place = next((at for at, block in enumerate(content) if block.get("type") != "tool_result"), len(content))
            content.insert(place, result)
        else:
            self._say("user", [result])

    def _end_visibly(self) -> None:
        """Takes the space off the end of a beginning of the answer, with which it would be refused."""
        if self._turns and self._turns[-1]["role"] == "assistant":
            last = self._turns[-1]["content"][-1]
            if last.get("type") == "text":
                last["text"] = last["text"].rstrip()


def conversation(messages: Sequence[ChatMessage], prefill: str, carried: Carried, facts: Facts) -> Document:
    """The fields `system` and `messages` of a request. Raises InvalidRequest, which names what is at fault."""
    found = Conversation(carried, facts)
    following: list[int | None] = [None]
    for message in reversed(messages):
        following.append(following[-1] if message.role in INSTRUCTIONS else message.role)
    for index, message in enumerate(messages):
        found.add(message, following[len(messages) - 1 - index], f"messages[{index}]")
    found.prefill(prefill)
    return found.document()
