"""Messages and their content: OpenAI's JSON becomes the contract."""

from typing import Any

from headgate.v1 import message_pb2
from headgate.v1.message_pb2 import (
    AudioReference,
    ChatMessage,
    ContentPart,
    ContentParts,
    File,
    ImageUrl,
    InputAudio,
    PromptCacheBreakpoint,
    ReasoningDetail,
    VideoUrl,
)

from rest_bridge.body import INT32, Fields, InvalidBody, checked_text, missing, mistyped
from rest_bridge.dialects.openai.tool import function_call, tool_call

ROLES = {
    "system": message_pb2.ROLE_SYSTEM,
    "developer": message_pb2.ROLE_DEVELOPER,
    "user": message_pb2.ROLE_USER,
    "assistant": message_pb2.ROLE_ASSISTANT,
    "tool": message_pb2.ROLE_TOOL,
    "function": message_pb2.ROLE_FUNCTION,
}

# An assistant may say nothing and call tools; a function may have no result.
SILENT_ROLES = frozenset({"assistant", "function"})


def chat_message(fields: Fields) -> ChatMessage:
    """One message. Source: OpenAI's ChatCompletionMessageParam; `reasoning_content` is another word for `reasoning`."""
    role = fields.required_text("role")
    if role not in ROLES:
        known = ", ".join(f"'{name}'" for name in ROLES)
        path = fields.at("role")
        raise InvalidBody(f"Invalid value for '{path}': '{role}'. Supported values are: {known}.", path)
    if "content" not in fields and role not in SILENT_ROLES:
        raise missing(fields.at("content"))
    text, parts = content(fields)
    audio, called = fields.fields("audio"), fields.fields("function_call")
    return ChatMessage(
        role=ROLES[role],
        text=text,
        parts=parts,
        name=fields.text("name"),
        tool_calls=[tool_call(call, index) for index, call in enumerate(fields.objects("tool_calls"))],
        tool_call_id=fields.text("tool_call_id"),
        refusal=fields.text("refusal"),
        reasoning=reasoning(fields),
        reasoning_details=[reasoning_detail(detail) for detail in fields.objects("reasoning_details")],
        audio=AudioReference(id=audio.required_text("id"), extra_json=audio.extra_json()) if audio else None,
        function_call=function_call(called) if called else None,
        extra_json=fields.extra_json(),
    )


def content(fields: Fields) -> tuple[str | None, ContentParts | None]:
    """The field `content`: as one string, or as parts; both None where it is absent."""
    value = fields.peek("content")
    if value is None or type(value) is str:
        return fields.text("content"), None
    if type(value) is not list:
        raise mistyped(fields.at("content"), "a string or an array", value)
    return None, ContentParts(parts=[content_part(part) for part in fields.objects("content")])


def content_part(fields: Fields) -> ContentPart:
    """One part of a message's content; one of an unknown type is carried whole."""
    kind = fields.peek("type")
    if kind is None:
        raise missing(fields.at("type"))
    reader = PARTS.get(checked_text(kind, fields.at("type")))
    if reader is None:
        return ContentPart(other_json=fields.whole_json())
    fields.drop("type")
    part: dict[str, Any] = {kind: reader(fields, kind)}
    mark = fields.fields("prompt_cache_breakpoint")
    return ContentPart(
        **part, prompt_cache_breakpoint=breakpoint_of(mark) if mark else None, extra_json=fields.extra_json()
    )


def text(fields: Fields, kind: str) -> str:
    """The text of a part of type text or refusal."""
    return fields.required_text(kind)


def image_url(fields: Fields, kind: str) -> ImageUrl:
    """The image of a part."""
    image = fields.required_fields(kind)
    return ImageUrl(url=image.required_text("url"), detail=image.text("detail"), extra_json=image.extra_json())


def input_audio(fields: Fields, kind: str) -> InputAudio:
    """The sound of a part."""
    audio = fields.required_fields(kind)
    return InputAudio(
        data=audio.required_text("data"), format=audio.text("format") or "", extra_json=audio.extra_json()
    )


def file(fields: Fields, kind: str) -> File:
    """The document of a part."""
    document = fields.required_fields(kind)
    return File(
        file_data=document.text("file_data"),
        file_id=document.text("file_id"),
        filename=document.text("filename"),
        extra_json=document.extra_json(),
    )


def video_url(fields: Fields, kind: str) -> VideoUrl:
    """The moving picture of a part."""
    video = fields.required_fields(kind)
    return VideoUrl(url=video.required_text("url"), extra_json=video.extra_json())


PARTS = {
    "text": text,
    "image_url": image_url,
    "input_audio": input_audio,
    "file": file,
    "video_url": video_url,
    "refusal": text,
}


def breakpoint_of(fields: Fields) -> PromptCacheBreakpoint:
    """A mark for the prompt cache."""
    return PromptCacheBreakpoint(
        mode=fields.required_text("mode"), ttl=fields.text("ttl"), extra_json=fields.extra_json()
    )


def reasoning(fields: Fields) -> str | None:
    """What the assistant thought, under either of the words that vendors use."""
    # OpenRouter's clients send both, with the same text.
    older = fields.text("reasoning_content")
    newer = fields.text("reasoning")
    return older if newer is None else newer


def reasoning_detail(fields: Fields) -> ReasoningDetail:
    """One piece of reasoning as its provider wants it back. Source: OpenRouter's reasoning_details."""
    return ReasoningDetail(
        type=fields.required_text("type"),
        id=fields.text("id"),
        format=fields.text("format"),
        index=fields.integer("index", *INT32),
        text=fields.text("text"),
        summary=fields.text("summary"),
        data=fields.text("data"),
        signature=fields.text("signature"),
        extra_json=fields.extra_json(),
    )
