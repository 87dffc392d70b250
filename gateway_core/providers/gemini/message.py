"""The conversation: the contract becomes Gemini's contents and its system instruction.

Sources: Content and FunctionResponse in https://ai.google.dev/api/caching#Content;
https://ai.google.dev/gemini-api/docs/thought-signatures (what goes back in the next turn, and where).
"""

from collections.abc import Iterable
from typing import Any

import orjson
from headgate.v1 import message_pb2
from headgate.v1.message_pb2 import ChatMessage, ToolCall

from gateway_core.errors import InvalidRequest
from gateway_core.providers.gemini.carried import REASONING, Carried
from gateway_core.providers.gemini.part import answered, arguments_of, parts_of
from gateway_core.upstream.json_text import Document, json_object

SYSTEM = frozenset({message_pb2.ROLE_SYSTEM, message_pb2.ROLE_DEVELOPER})
RESULTS = frozenset({message_pb2.ROLE_TOOL, message_pb2.ROLE_FUNCTION})

UNSIGNED = "skip_thought_signature_validator"
"""Stands for the signature of a call that Gemini has not made, or whose signature the caller has lost."""


class Conversation:
    """What was said, in Gemini's form."""

    def __init__(self, carried: Carried, *, wants_signatures: bool) -> None:
        """Takes what keeps what has no place, and whether every step that calls functions must be signed."""
        self.instructions: list[Document] = []
        """Parts of the system instruction."""
        self.contents: list[Document] = []
        self._carried = carried
        self._wants_signatures = wants_signatures
        self._names: dict[str, str] = {}  # of called functions, by the ids of their calls
        self._ids: dict[str, str] = {}  # of the last calls in the form before tools, by the names of their functions
        self._last_is_result = False

    def add(self, messages: Iterable[ChatMessage]) -> None:
        """Adds messages; raises InvalidRequest, which names the one at fault."""
        for index, message in enumerate(messages):
            self._add(message, f"messages[{index}]")

    def say(self, spoken: list[Document]) -> None:
        """Adds what the model said. Its messages in a row are one turn: calls after a turn of its own are refused."""
        if not spoken:
            return
        if self.contents and self.contents[-1]["role"] == "model":
            self.contents[-1]["parts"] += spoken
        else:
            self.contents.append({"role": "model", "parts": spoken})

    def finish(self) -> None:
        """Sees to it that something is said: instructions alone are the user's words."""
        if not self.contents and self.instructions:
            self.contents, self.instructions = [{"role": "user", "parts": self.instructions}], []

    def _add(self, message: ChatMessage, path: str) -> None:
        if message.role in RESULTS:
            self._add_result(message, path)
            return
        # Instructions stand apart, so that results on both sides of them are of one step.
        self._last_is_result = self._last_is_result and message.role in SYSTEM
        is_answer = message.role == message_pb2.ROLE_ASSISTANT
        if message.HasField("name"):
            self._carried.leave(f"{path}.name")
        if message.HasField("audio"):
            self._carried.untold[f"{path}.audio"] = None
        content = self._content(message, f"{path}.content")
        if is_answer:
            self._carried.forget(message.extra_json, path)
        else:
            self._carried.merge({}, message.extra_json, path)
        if message.role in SYSTEM:
            self.instructions += content
        elif is_answer:
            self.say(self._spoken(message, content, path))
        else:
            self.contents.append({"role": "user", "parts": content or [{"text": ""}]})

    def _content(self, message: ChatMessage, path: str) -> list[Document]:
        if message.HasField("text"):
            return [{"text": message.text}]
        return parts_of(message.parts, self._carried, path) if message.HasField("parts") else []

    def _spoken(self, message: ChatMessage, content: list[Document], path: str) -> list[Document]:
        """What the model said: thoughts, text, and calls, with the signatures that it gave."""
        details = [detail for detail in message.reasoning_details if detail.format == REASONING]
        parts: list[Document] = []
        for detail in details:
            if detail.text:
                signed = {"thoughtSignature": detail.signature} if detail.signature else {}
                parts.append({"text": detail.text, "thought": True, **signed})
        signatures = {detail.id: detail.data for detail in details if detail.data}
        said = [part for part in content if part.get("text") != ""]
        if message.refusal:
            said.append({"text": message.refusal})
        if own := signatures.pop("", ""):
            if not said:
                said.append({"text": ""})
            said[-1] = {**said[-1], "thoughtSignature": own}
        return parts + said + self._calls(message, signatures, path)

    def _calls(self, message: ChatMessage, signatures: dict[str, str], path: str) -> list[Document]:
        parts: list[Document] = []
        for index, call in enumerate(message.tool_calls):
            for part in self._call(call, f"{path}.tool_calls[{index}]"):
                if call.id in signatures:
                    part["thoughtSignature"] = signatures[call.id]
                parts.append(part)
        if message.HasField("function_call"):
            called = message.function_call
            args = arguments_of(called.arguments, self._carried, f"{path}.function_call.arguments")
            # Newer models want every result to have the id of its call.
            identity = self._ids[called.name] = f"call_{len(self.contents)}"
            parts.append({"functionCall": {"id": identity, "name": called.name, "args": args}})
        # Of calls that were made at once only the first has a signature.
        if parts and self._wants_signatures:
            parts[0].setdefault("thoughtSignature", UNSIGNED)
        return parts

    def _call(self, call: ToolCall, path: str) -> list[Any]:
        """An earlier call, in a list; an empty list where it is of a kind that Gemini does not know."""
        kind = call.WhichOneof("call")
        if kind == "other_json":
            return self._carried.whole(call.other_json, path)
        if kind != "function":
            self._carried.leave(f"{path}.{kind or 'function'}")
            return []
        called: Document = {"id": call.id} if call.id else {}
        called["name"] = call.function.name
        called["args"] = arguments_of(call.function.arguments, self._carried, f"{path}.function.arguments")
        self._carried.forget(call.function.extra_json, f"{path}.function")
        self._names[call.id] = call.function.name
        part: Document = {"functionCall": called}
        if call.extra_json:
            extra = json_object(call.extra_json, f"{path}.extra_json")
            if signature := signature_of(extra.pop("extra_content", None)):
                part["thoughtSignature"] = signature
            self._carried.forget(orjson.dumps(extra).decode(), path)
        return [part]

    def _add_result(self, message: ChatMessage, path: str) -> None:
        """What a function answered: what all calls of one step answered is one content."""
        name = self._names.get(message.tool_call_id) or message.name
        if not name:
            where = f"{path}.tool_call_id"
            raise InvalidRequest(f"{where} names no call of an earlier message.", param=where)
        content = self._content(message, f"{path}.content")
        text = "".join(part["text"] for part in content if "text" in part)
        identity = message.tool_call_id or self._ids.get(name, "")
        document: Document = {"id": identity} if identity else {}
        document.update(name=name, **answered(text, [part for part in content if "text" not in part]))
        self._carried.merge({}, message.extra_json, path)
        part = {"functionResponse": document}
        if self._last_is_result:
            self.contents[-1]["parts"].append(part)
        else:
            self.contents.append({"role": "user", "parts": [part]})
        self._last_is_result = True


def signature_of(extra: Any) -> str:
    """The signature in a call's extra_content, where Google's OpenAI-compatible API has it. Empty: none."""
    google = extra.get("google") if type(extra) is dict else None
    signature = google.get("thought_signature") if type(google) is dict else None
    return signature if type(signature) is str else ""
