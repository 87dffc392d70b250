"""The messages of a conversation become Ollama's.

Source: https://docs.ollama.com/api/chat
"""

from collections.abc import Iterable

from headgate.v1 import message_pb2
from headgate.v1.message_pb2 import ChatMessage, ContentPart, ToolCall

from gateway_core.upstream.json_text import Document, json_object

FORMAT = "ollama"

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

    What Ollama has no word for is named in `left_out`, as a path.
    """

    def __init__(self, extra_format: str) -> None:
        """Takes the wire format that the unknown fields of the messages belong to."""
        self._fits = extra_format == FORMAT
        self._names: dict[str, str] = {}
        self.left_out: dict[str, None] = {}

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
            arguments = json_object(called.arguments or "{}", f"{path}.function_call.arguments")
            calls.append({"function": {"name": called.name, "arguments": arguments}})
        if any(calls):
            document["tool_calls"] = [call for call in calls if call]
        if document["role"] == "tool":
            self._put_answered(document, message)
        for field, _ in message.ListFields():
            if field.name in ("audio",) or (field.name == "name" and document["role"] != "tool"):
                self.left_out[f"{path}.{field.name}"] = None
        return self._merged(document, message.extra_json, path)

    def _put_parts(self, document: Document, parts: Iterable[ContentPart], path: str) -> None:
        """Texts are joined, images go beside them: Ollama has no order of both."""
        texts, images = [], []
        for index, part in enumerate(parts):
            kind = part.WhichOneof("part")
            image = image_data(part.image_url.url) if kind == "image_url" else None
            if kind == "text" or kind == "refusal":
                texts.append(part.text or part.refusal)
            elif image is not None:
                images.append(image)
            else:
                self.left_out[f"{path}[{index}].{kind}" if kind else f"{path}[{index}]"] = None
        document["content"] = "\n".join(texts)
        if images:
            document["images"] = images

    def _call(self, call: ToolCall, path: str) -> Document:
        """A call that the assistant made; empty where it is of a kind that Ollama does not know."""
        if not call.HasField("function"):
            self.left_out[path] = None
            return {}
        named = call.function
        arguments = json_object(named.arguments or "{}", f"{path}.function.arguments")
        document: Document = {"function": {"name": named.name, "arguments": arguments}}
        if call.id:
            document = {"id": call.id, **document}
            self._names[call.id] = named.name
        self._merged(document["function"], named.extra_json, f"{path}.function")
        return self._merged(document, call.extra_json, path)

    def _put_answered(self, document: Document, message: ChatMessage) -> None:
        """Which tool a result is of, and which call it answers."""
        if name := self._names.get(message.tool_call_id) or message.name:
            document["tool_name"] = name
        if message.tool_call_id:
            document["tool_call_id"] = message.tool_call_id

    def _merged(self, document: Document, extra_json: str, path: str) -> Document:
        if extra_json:
            for name, value in json_object(extra_json, f"{path}.extra_json").items():
                if self._fits:
                    document.setdefault(name, value)
                else:
                    self.left_out[f"{path}.{name}"] = None
        return document


def image_data(url: str) -> str | None:
    """The Base64 of an image that is given in place; None for one that would have to be fetched."""
    scheme, comma, data = url.partition(",")
    return data if comma and scheme.startswith("data:") and scheme.endswith(";base64") else None
