"""Images, documents, sounds and moving pictures: the contract becomes Converse's blocks.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ContentBlock.html
"""

import re
from base64 import b64encode
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from headgate.v1.message_pb2 import File, InputAudio

from gateway_core.errors import InvalidRequest
from gateway_core.upstream.json_text import Document

IMAGES = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
VIDEOS = {
    "video/x-matroska": "mkv",
    "video/quicktime": "mov",
    "video/mp4": "mp4",
    "video/webm": "webm",
    "video/x-flv": "flv",
    "video/mpeg": "mpeg",
    "video/x-ms-wmv": "wmv",
    "video/3gpp": "three_gp",
}
DOCUMENTS = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}
ENDINGS = frozenset(DOCUMENTS.values())

DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.+-]+=[^;,]*)*)(;base64)?,", re.IGNORECASE)
UNNAMED = "document"
NAME_AT_MOST = 200


class Data(NamedTuple):
    """What a data URL holds."""

    type: str
    """The media type, in lower case. Empty: not told."""
    base64: str


def data(url: str) -> Data | None:
    """What a data URL holds; None for any other."""
    head = DATA_URL.match(url)
    if head is None:
        return None
    body = url[head.end() :]
    return Data((head[1] or "").lower(), body if head[3] else b64encode(unquote_to_bytes(body)).decode())


def medium(kind: str, url: str, formats: dict[str, str], path: str) -> Document:
    """An image or a moving picture, in place or in Amazon S3; raises InvalidRequest for one that is elsewhere."""
    if url.startswith("s3://"):
        ending = url.rpartition(".")[2].lower()
        form = "jpeg" if ending == "jpg" else ending
        if form not in formats.values():
            raise InvalidRequest(
                f"{path}.url must end in one of {', '.join(sorted(set(formats.values())))}.", param=path
            )
        return {kind: {"format": form, "source": {"s3Location": {"uri": url}}}}
    held = data(url)
    if held is None:
        raise InvalidRequest(f"{path}.url must be a data URL or begin with s3://: Bedrock fetches nothing.", param=path)
    if held.type not in formats:
        raise InvalidRequest(f"{path}.url must be of one of {', '.join(sorted(formats))}.", param=path)
    return {kind: {"format": formats[held.type], "source": {"bytes": held.base64}}}


def image(url: str, path: str) -> Document:
    """An image."""
    return medium("image", url, IMAGES, path)


def video(url: str, path: str) -> Document:
    """A moving picture."""
    return medium("video", url, VIDEOS, path)


def audio(sound: InputAudio) -> Document:
    """A sound."""
    return {"audio": {"format": sound.format, "source": {"bytes": sound.data}}}


def document(file: File, path: str) -> Document:
    """A document in place; raises InvalidRequest for one by id, and one whose kind cannot be told."""
    if not file.HasField("file_data"):
        raise InvalidRequest(f"{path} must have file_data: Bedrock keeps no files.", param=path)
    stem, dot, ending = file.filename.rpartition(".")
    held = data(file.file_data)
    form = DOCUMENTS.get(held.type) if held else None
    if form is None:
        form = ending.lower() if dot and ending.lower() in ENDINGS else None
    if form is None:
        said = ", ".join(sorted(ENDINGS))
        raise InvalidRequest(f"{path} must tell its type by a data URL or a filename ({said}).", param=path)
    source = {"bytes": held.base64 if held else file.file_data}
    return {"document": {"format": form, "name": name(stem if dot else file.filename), "source": source}}


def name(text: str) -> str:
    """A name as Bedrock allows it: letters, digits, spaces one at a time, hyphens, parentheses, square brackets."""
    plain = re.sub(r"[^A-Za-z0-9\s()\[\]-]+", "-", text)
    return re.sub(r"\s+", " ", plain).strip()[:NAME_AT_MOST] or UNNAMED
