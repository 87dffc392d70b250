"""Parts of messages become Anthropic's content blocks: text, images, documents, and marks for the prompt cache.

Sources: https://platform.claude.com/docs/en/api/messages/create (ContentBlockParam),
https://platform.claude.com/docs/en/build-with-claude/files (file sources),
https://platform.claude.com/docs/en/build-with-claude/prompt-caching (cache_control).
"""

import base64
import binascii
import re
from typing import Any
from urllib.parse import unquote_to_bytes

from headgate.v1.message_pb2 import ChatMessage, ContentPart, ContentParts, File, ImageUrl, PromptCacheBreakpoint

from gateway_core.errors import InvalidRequest
from gateway_core.providers.anthropic.carried import Carried
from gateway_core.upstream.json_text import Document

DATA_URL = re.compile(r"data:([^;,]*)(?:;[^;,]*)*?(;base64)?,(.*)", re.DOTALL | re.IGNORECASE)

FILES_BETA = "files-api-2025-04-14"
"""Without it, blocks cannot name files that the provider has."""

TYPES = {"pdf": "application/pdf", "txt": "text/plain", "md": "text/plain", "csv": "text/plain", "json": "text/plain"}
"""Media types of documents by the endings of their names, where nothing else tells."""

TTLS = ("5m", "1h")

HOUR = re.compile(r"60m|1h")


def blocks(message: ChatMessage, carried: Carried, path: str) -> list[Any]:
    """What a message says, as blocks; texts without a visible character are left out, because they are refused."""
    if message.HasField("text"):
        return text_blocks(message.text)
    return part_blocks(message.parts, carried, f"{path}.content")


def text_blocks(text: str) -> list[Any]:
    """A text as a block, in a list."""
    return [{"type": "text", "text": text}] if text.strip() else []


def part_blocks(parts: ContentParts, carried: Carried, path: str) -> list[Any]:
    """Content as blocks."""
    return [block for index, part in enumerate(parts.parts) for block in part_block(part, carried, f"{path}[{index}]")]


def part_block(part: ContentPart, carried: Carried, path: str) -> list[Any]:
    """One part as a block, in a list; an empty list where it is left out."""
    kind = part.WhichOneof("part")
    match kind:
        case "text" | "refusal":
            found = text_blocks(part.text or part.refusal)
        case "image_url":
            found = [image(part.image_url, carried, f"{path}.image_url")]
        case "file":
            found = [document(part.file, carried, f"{path}.file")]
        case "other_json":
            found = carried.whole(part.other_json, path)
        case _:
            if kind is not None:
                carried.leave_out(f"{path}.{kind}")
            found = []
    for block in found:
        if part.HasField("prompt_cache_breakpoint"):
            block["cache_control"] = cache_control(part.prompt_cache_breakpoint, carried, path)
        carried.merge(block, part.extra_json, path)
    return found


def cache_control(mark: PromptCacheBreakpoint, carried: Carried, path: str) -> Document:
    """A mark for the prompt cache, which keeps for five minutes or for an hour."""
    control: Document = {"type": "ephemeral"}
    if mark.HasField("ttl"):
        control["ttl"] = mark.ttl if mark.ttl in TTLS else "1h"
        if mark.ttl not in TTLS and not HOUR.fullmatch(mark.ttl):
            carried.change(f"{path}.prompt_cache_breakpoint.ttl", "changed to 1h, the provider knows 5m and 1h")
    return control


def image(url: ImageUrl, carried: Carried, path: str) -> Document:
    """An image, by address or in place."""
    if url.detail not in ("", "auto"):
        carried.leave_out(f"{path}.detail")
    block: Document = {"type": "image", "source": {"type": "url", "url": url.url}}
    if url.url[:5].lower() == "data:":
        media_type, data = data_url(url.url, f"{path}.url")
        block["source"] = {"type": "base64", "media_type": media_type, "data": data}
    return carried.merge(block, url.extra_json, path)


def document(file: File, carried: Carried, path: str) -> Document:
    """A document, in place or by its id with the provider."""
    if file.HasField("file_id"):
        carried.betas[FILES_BETA] = None
        source: Document = {"type": "file", "file_id": file.file_id}
        return carried.merge({"type": "document", "source": source}, file.extra_json, path)
    media_type, data = file_content(file, f"{path}.file_data")
    if media_type.startswith("image/"):
        return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}
    source = {"type": "base64", "media_type": media_type, "data": data}
    if media_type.startswith("text/"):
        source = {"type": "text", "media_type": "text/plain", "data": text_of(data, f"{path}.file_data")}
    block: Document = {"type": "document", "source": source}
    if file.filename:
        block["title"] = file.filename
    return carried.merge(block, file.extra_json, path)


def file_content(file: File, path: str) -> tuple[str, str]:
    """Media type and base64 of a document, from a data URL or by the ending of its name."""
    if file.file_data[:5].lower() == "data:":
        media_type, data = data_url(file.file_data, path)
        if media_type and media_type != "application/octet-stream":
            return media_type, data
    else:
        data = file.file_data
    return TYPES.get(file.filename.rpartition(".")[2].lower(), "application/pdf"), data


def data_url(url: str, path: str) -> tuple[str, str]:
    """Media type and base64 of a data URL; raises InvalidRequest where it is none."""
    found = DATA_URL.fullmatch(url)
    if found is None:
        raise InvalidRequest(f"{path} is not a valid data URL.", param=path)
    media_type, is_base64, data = found.groups()
    if not is_base64:
        data = base64.b64encode(unquote_to_bytes(data)).decode()
    return media_type.strip().lower(), data


def text_of(data: str, path: str) -> str:
    """The text that base64 stands for; raises InvalidRequest where it stands for none."""
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidRequest(f"{path} is not base64 of a text in UTF-8.", param=path) from None
