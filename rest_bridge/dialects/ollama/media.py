"""What Ollama calls images: base64 of a picture or a sound, told apart by their first bytes."""

import base64
import binascii

from headgate.v1.message_pb2 import ContentPart, ImageUrl, InputAudio

from rest_bridge.body import InvalidBody

PICTURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
)


def media_part(text: str, path: str) -> ContentPart:
    """A picture or sound as a part of a message; raises InvalidBody where it is neither.

    Takes standard base64, also behind the prefix of a data URL, whose type is not believed: vendors refuse a picture
    whose type is wrong. Sounds are WAV and MP3. Source: NewMediaData in Ollama's llm/media.go.
    """
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    encoded = encoded.replace("\r", "").replace("\n", "")
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidBody(f"{path} must be base64.", path) from None
    if sound := sound_format(data):
        return ContentPart(input_audio=InputAudio(data=encoded, format=sound))
    if picture := picture_type(data):
        return ContentPart(image_url=ImageUrl(url=f"data:{picture};base64,{encoded}"))
    raise InvalidBody(f"{path} must be a PNG, JPEG, GIF, WebP or BMP picture, or a WAV or MP3 sound.", path)


def picture_type(data: bytes) -> str | None:
    """The MIME type of a picture. None: none that is known."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((mime for magic, mime in PICTURES if data.startswith(magic)), None)


def sound_format(data: bytes) -> str | None:
    """The format of a sound: "wav", "mp3". None: none that is known."""
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "wav"
    if data.startswith(b"ID3") or (len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0):
        return "mp3"
    return None
