"""Parts of a message's content: the contract becomes Gemini's JSON.

Sources: Part, Blob and FileData in https://ai.google.dev/api/caching#Part;
https://ai.google.dev/gemini-api/docs/file-input-methods (which addresses Gemini reads itself).
"""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import orjson
from headgate.v1.message_pb2 import ContentPart, ContentParts, File, ImageUrl, InputAudio, VideoUrl

from gateway_core.errors import InvalidRequest
from gateway_core.providers.gemini.carried import Carried
from gateway_core.upstream.depth import is_within
from gateway_core.upstream.json_text import Document

DATA_URL = re.compile(r"data:(?P<kind>[^;,]*)(?P<parameters>(?:;[^;,]*)*?)(?P<base64>;base64)?,", re.IGNORECASE)

FILES = "https://generativelanguage.googleapis.com/v1beta/"
"""Where files that were uploaded are: their names ("files/abc") follow."""

IMAGE, VIDEO, DOCUMENT = "image/jpeg", "", "application/pdf"
"""What is assumed where nothing tells. Empty: nothing, as for addresses of YouTube."""

KINDS = {
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp", "heic": "image/heic",
    "heif": "image/heif", "gif": "image/gif", "pdf": "application/pdf", "txt": "text/plain", "md": "text/markdown",
    "html": "text/html", "css": "text/css", "csv": "text/csv", "xml": "text/xml", "rtf": "text/rtf",
    "json": "application/json", "js": "text/javascript", "py": "text/x-python", "mp3": "audio/mp3", "wav": "audio/wav",
    "aac": "audio/aac", "ogg": "audio/ogg", "flac": "audio/flac", "aiff": "audio/aiff", "m4a": "audio/m4a",
    "mp4": "video/mp4", "mov": "video/mov", "webm": "video/webm", "avi": "video/avi", "mpg": "video/mpg",
    "mpeg": "video/mpeg", "wmv": "video/wmv", "flv": "video/x-flv", "3gp": "video/3gpp",
}  # fmt: skip
"""What is in a file, by the end of its name. No system's own list: it would differ from one to the next."""


def parts_of(content: ContentParts, carried: Carried, path: str) -> list[Document]:
    """The parts of a content."""
    return [
        document
        for index, part in enumerate(content.parts)
        for document in part_document(part, carried, f"{path}[{index}]")
    ]


def part_document(part: ContentPart, carried: Carried, path: str) -> list[Any]:
    """One part, in a list; an empty list where Gemini has none for it."""
    if part.HasField("prompt_cache_breakpoint"):
        carried.leave(f"{path}.prompt_cache_breakpoint")
    kind = part.WhichOneof("part")
    if kind is None:
        return []
    if kind == "other_json":
        return carried.whole(part.other_json, path)
    value = getattr(part, kind)
    document = {"text": value} if isinstance(value, str) else WRITERS[kind](value, carried, f"{path}.{kind}")
    return [carried.merge(document, part.extra_json, path)] if document else []


def image(value: ImageUrl, carried: Carried, path: str) -> Document:
    """An image."""
    if value.detail not in ("", "auto"):
        carried.leave(f"{path}.detail")
    return carried.merge(at(value.url, IMAGE, path), value.extra_json, path)


def video(value: VideoUrl, carried: Carried, path: str) -> Document:
    """A moving picture."""
    return carried.merge(at(value.url, VIDEO, path), value.extra_json, path)


def audio(value: InputAudio, carried: Carried, path: str) -> Document:
    """A sound."""
    kind = f"audio/{value.format.lower() or 'wav'}"
    return carried.merge(inline(kind, value.data), value.extra_json, path)


def file(value: File, carried: Carried, path: str) -> Document:
    """A document, in place or uploaded before; one that another vendor has is left out."""
    kind = kind_of(value.filename) or DOCUMENT
    if value.HasField("file_data"):
        data = value.file_data
        document = at(data, kind, path) if "://" in data[:8] or data[:5] == "data:" else inline(kind, data)
    elif value.file_id.startswith("files/"):
        document = {"fileData": {"fileUri": FILES + value.file_id}}
    elif value.file_id.startswith("https://"):
        document = {"fileData": {"fileUri": value.file_id}}
    else:
        carried.leave(path)
        return {}
    return carried.merge(document, value.extra_json, path)


WRITERS: dict[str, Callable[[Any, Carried, str], Document]] = {
    "image_url": image,
    "video_url": video,
    "input_audio": audio,
    "file": file,
}


def at(url: str, kind: str, path: str) -> Document:
    """What is at an address, or in it; takes the kind that is assumed."""
    data = DATA_URL.match(url)
    if data is None:
        if not url.startswith(("http://", "https://", "gs://")):
            raise InvalidRequest(f"{path}.url must have the scheme https, http or data.", param=f"{path}.url")
        told = kind_of(urlsplit(url).path) or kind
        return {"fileData": {**({"mimeType": told} if told else {}), "fileUri": url}}
    content = url[data.end() :]
    if not data["base64"]:
        return {"text": unquote_to_bytes(content).decode(errors="replace")}
    return inline(data["kind"].lower() or kind or "video/mp4", content)


def kind_of(name: str) -> str:
    """What is in a file of a name. Empty: not known."""
    return KINDS.get(name.rpartition(".")[2].lower(), "")


def inline(kind: str, data: str) -> Document:
    """Bytes in place, as base64."""
    return {"inlineData": {"mimeType": kind, "data": data}}


def answered(text: str, media: list[Document]) -> Document:
    """What a tool answered, as the object that Gemini wants.

    The text stays a text: as an object its large numbers would be rounded, and its "$ref" would be taken for a file.
    """
    document: Document = {"response": {"output": text}}
    if media:
        document["parts"] = media
    return document


def arguments_of(text: str, carried: Carried, path: str) -> Document:
    """The arguments of an earlier call, which may be no JSON object: models write them."""
    if not text.strip():
        return {}
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if type(value) is dict and is_within(text, value):
        return value
    carried.changed[path] = "sent as a text, because it is no JSON object that can be written again"
    return {"arguments": text}
