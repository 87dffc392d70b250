"""The messages of a conversation become Ollama's.

Source: https://docs.ollama.com/api/chat
"""

from collections.abc import Iterable

from headgate.v1 import message_pb2
from headgate.v1.message_pb2 import ChatMessage, ContentPart, ToolCall

from gateway_core.providers.ollama.extra import Extra
from gateway_core.upstream.json_text import Document, given_arguments

ROLES = {
    message_pb2.ROLE_SYSTEM: "system",
    message_pb2.ROLE_DEVELOPER: "system",
    message_pb2.ROLE_USER: "user",
    message_pb2.ROLE_ASSISTANT: "assistant",
    message_pb2.ROLE_TOOL: "tool",
    message_pb2.ROLE_FUNCTION: "tool",
}


class Conversation:
    """Writes messages, and remembers which tool each call named: results of tools tell the tool's name.

    What Ollama has no word for is named, as a path.
    """

    def __init__(self, extra: Extra) -> None:
        """Takes what puts in unknown fields, and names what is left out."""
        self._extra = extra
        self._left_out = extra.left_out
        self._names: dict[str, str] = {}

    def documents(self, messages: Iterable[ChatMessage], prefill: str) -> list[Document]:
        """The messages; a beginning of the answer is the assistant's last, which models continue."""
        written = [self._document(message, f"messages[{index}]") for index, message in enumerate(messages)]
        return [*written, {"role": "assistant", "content": prefill}] if prefill else written

    def _document(self, message: ChatMessage, path: str) -> Document:
        document: Document = {"role": ROLES[message.role], "content": message.text or message.refusal}
        if message.HasField("parts"):
            self._put_parts(document, message.parts.parts, f"{path}.content")
        if thought := message.reasoning or "".join(detail.text for detail in message.reasoning_details):
            document["thinking"] = thought
        calls = [self._call(call, f"{path}.tool_calls[{n}]") for n, call in enumerate(message.tool_calls)]
        if message.HasField("function_call"):
            called = message.function_call
            calls.append({"function": {"name": called.name, "arguments": given_arguments(called.arguments)}})
        if any(calls):
            document["tool_calls"] = [call for call in calls if call]
        if document["role"] == "tool":
            self._put_answered(document, message)
        if message.HasField("name") and document["role"] != "tool":
            self._left_out[f"{path}.name"] = None
        if message.HasField("audio"):
            self._extra.untold[f"{path}.audio"] = None
        if any(detail.data for detail in message.reasoning_details):
            self._extra.untold[f"{path}.reasoning_details"] = None
        if message.role == message_pb2.ROLE_ASSISTANT:
            return self._extra.recall(document, message.extra_json, path)
        return self._extra.merge(document, message.extra_json, path)

    def _put_parts(self, document: Document, parts: Iterable[ContentPart], path: str) -> None:
        """Texts are joined, images go beside them: Ollama has no order of both."""
        texts, images = [], []
        for index, part in enumerate(parts):
            kind, at = part.WhichOneof("part"), f"{path}[{index}]"
            image = image_data(part.image_url.url) if kind == "image_url" else None
            if kind == "text" or kind == "refusal":
                texts.append(part.text or part.refusal)
            elif image is not None:
                images.append(image)
            else:
                self._left_out[f"{at}.{kind}" if kind else at] = None
            self._extra.leave_out(part.extra_json, at)
            if part.HasField("prompt_cache_breakpoint"):
                self._left_out[f"{at}.prompt_cache_breakpoint"] = None
            if part.image_url.detail not in ("", "auto"):
                self._left_out[f"{at}.image_url.detail"] = None
        document["content"] = "\n".join(texts)
        if images:
            document["images"] = images

    def _call(self, call: ToolCall, path: str) -> Document:
        """A call that the assistant made; empty where it is of a kind that Ollama does not know."""
        if not call.HasField("function"):
            self._left_out[path] = None
            return {}
        named = call.function
        document: Document = {"function": {"name": named.name, "arguments": given_arguments(named.arguments)}}
        if call.id:
            document = {"id": call.id, **document}
            self._names[call.id] = named.name
        self._extra.recall(document["function"], named.extra_json, f"{path}.function")
        return self._extra.recall(document, call.extra_json, path)

    def _put_answered(self, document: Document, message: ChatMessage) -> None:
        """Which tool a result is of, and which call it answers."""
        if name := self._names.get(message.tool_call_id) or message.name:
            document["tool_name"] = name
        if message.tool_call_id:
            document["tool_call_id"] = message.tool_call_id


def image_data(url: str) -> str | None:
    """The Base64 of an image that is given in place; None for one that would have to be fetched."""
    scheme, comma, data = url.partition(",")
    return data if comma and scheme.startswith("data:") and scheme.endswith(";base64") else None
