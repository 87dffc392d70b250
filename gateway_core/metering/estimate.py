"""How many tokens a request has, estimated before it is sent: no tokenizer is asked, and none is downloaded.

A text is cut into words, numbers, signs and runs of one script, and each counts what such a piece takes on the average
in the vocabularies of 2024 and later (about 200,000 pieces). docs/limits.md has the error. The chat form is that of
OpenAI's cookbook, "How to count tokens with tiktoken": three tokens for a message, and three for the answer's opening.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from headgate.v1.message_pb2 import ChatMessage, ContentPart

from gateway_core.chat import Chat

MILLI = 1000
SAMPLED_CHARACTERS = 4096
SAMPLES = 8
"""A text that is longer is counted in so many pieces, at even distances, which have so many characters together."""

KNOWN_AT_MOST = 10_000
"""Texts whose tokens are known still."""

MESSAGE_TOKENS = 3
NAME_TOKENS = 1
OPENING_TOKENS = 3
TOOL_TOKENS = 8
IMAGE_TOKENS = {"low": 85}
IMAGE_TOKENS_OTHERWISE = 765
"""An image of 1024 x 1024 at high detail (OpenAI, "Images and vision": 85 + 4 x 170)."""
AUDIO_BASE64_CHARACTERS_PER_TOKEN = 2000
FILE_BASE64_CHARACTERS_PER_TOKEN = 8
VIDEO_TOKENS = 5000
OPAQUE_TOKENS = 500
"""Of a document that the provider has, and of a part whose form is not known."""

# Most texts are ASCII: there every piece counts one, which takes a tenth of the time.
ASCII_PIECES = re.compile(r" ?[A-Za-z]{1,10}|'[a-z]{1,2}|[0-9]{1,3}| ?[!-/:-@\[-`{-~]{1,2}|\s{1,16}")

LATIN = "\u00c0-\u024f\u0300-\u036f\u1e00-\u1eff"
# By the first group that takes a character. Weights are thousandths of a token.
PIECES = re.compile(
    rf"(?P<word>[A-Za-z{LATIN}]+)|(?P<number>[0-9]{{1,3}})|(?P<space>[ \t\r\n\u00a0]+)"
    r"|(?P<sign>[!-/:-@\[-`{-~]+)|(?P<cyrillic>[\u0370-\u052f]+)"
    r"|(?P<semitic>[\u0590-\u08ff\ufb50-\ufdff\ufe70-\ufeff]+)|(?P<indic>[\u0900-\u0dff]+)"
    r"|(?P<hangul>[\u1100-\u11ff\uac00-\ud7af]+)|(?P<kana>[\u3040-\u30ff]+)|(?P<han>[\u3400-\u9fff\uf900-\ufaff]+)"
    r"|(?P<mark>[\u2010-\u2027\u3000-\u303f\uff00-\uffef\u00a1-\u00bf]+)|(?P<other>.)",
    re.DOTALL,
)


def word(piece: str) -> int:
    """A short word is usually one piece; one that is longer, or has accents, somewhat more."""
    return 1000 + 110 * max(0, len(piece) - 5) + (0 if piece.isascii() else 250)


def space(piece: str) -> int:
    """One space goes with the word that follows; longer runs are one piece for every sixteen."""
    return 0 if piece == " " else 1000 * -(-len(piece) // 16)


def per_character(weight: int, first: int = 0) -> Callable[[str], int]:
    """What counts by its length."""
    return lambda piece: first + weight * len(piece)


WEIGHTS: dict[str | None, Callable[[str], int]] = {
    "word": word,
    "number": per_character(0, 1000),
    "space": space,
    "sign": per_character(500, 500),
    "cyrillic": per_character(160, 500),
    "semitic": per_character(270, 500),
    "indic": per_character(300, 300),
    "hangul": per_character(600, 0),
    "kana": per_character(600, 0),
    "han": per_character(750, 0),
    "mark": per_character(900, 0),
    "other": per_character(2000, 0),
}


def text_tokens(text: str) -> int:
    """The tokens of a text, about. Takes a bounded time, whatever its length.

    Instructions, and what was said before in a conversation, come again with each call: that is not counted again.
    Texts themselves are not kept.
    """
    if len(text) > SAMPLED_CHARACTERS:
        return counted(text)
    place = hash(text)
    known = _known.get(place)
    if known is None:
        if len(_known) >= KNOWN_AT_MOST:
            _known.clear()
        known = _known[place] = counted(text)
    return known


_known: dict[int, int] = {}
"""Tokens of texts by their hashes, of 64 bits and with a secret of the process, so that nobody can make two alike."""


def counted(text: str) -> int:
    """The tokens of a text, about."""
    length = len(text)
    if length <= SAMPLED_CHARACTERS:
        return -(-weight(text) // MILLI)
    size = SAMPLED_CHARACTERS // SAMPLES
    step = (length - size) // (SAMPLES - 1)
    total = sum(weight(text[start : start + size]) for start in range(0, SAMPLES * step, step))
    return -(-total * length // (MILLI * size * SAMPLES))


def weight(text: str) -> int:
    """Thousandths of a token."""
    if text.isascii():
        return MILLI * len(ASCII_PIECES.findall(text))
    return sum(WEIGHTS[match.lastgroup](match[0]) for match in PIECES.finditer(text))


def input_tokens(chat: Chat) -> int:
    """The tokens of a request, about: messages, tools and the form of the answer."""
    total = OPENING_TOKENS
    for index, turn in enumerate(chat.turns):
        if turn is None:
            total += message_tokens(chat.spec.messages[index])
        else:
            text = turn[1]
            # Most texts are known: what is not, or has none, is counted. To hash a long one takes as long as it is.
            known = _known.get(hash(text)) if len(text) <= SAMPLED_CHARACTERS else None
            total += MESSAGE_TOKENS + (known or text_tokens(text))
    fields = chat.fields
    return total if COUNTED.isdisjoint(fields) else total + field_tokens(fields)


COUNTED = frozenset({"tools", "functions", "response_format", "prefill"})
"""Fields that the model reads beside the messages."""


def field_tokens(fields: Mapping[str, Any]) -> int:
    """The tokens of these, about."""
    total = 0
    for name in ("tools", "functions"):
        for offered in fields.get(name, ()):
            total += TOOL_TOKENS + text_tokens(written(offered))
    if "response_format" in fields:
        total += text_tokens(fields["response_format"].json_schema.schema_json)
    if fields.get("prefill"):
        total += text_tokens(fields["prefill"])
    return total


def message_tokens(message: ChatMessage) -> int:
    """The tokens of one message, about."""
    total = MESSAGE_TOKENS
    text = message.text
    if text:
        total += text_tokens(text)
    elif "parts" in message:
        total += sum(part_tokens(part) for part in message.parts.parts)
    if message.name:
        total += NAME_TOKENS + text_tokens(message.name)
    for call in message.tool_calls:
        total += TOOL_TOKENS + text_tokens(written(call))
    if "function_call" in message:
        total += TOOL_TOKENS + text_tokens(written(message.function_call))
    if message.refusal:
        total += text_tokens(message.refusal)
    if message.reasoning:
        total += text_tokens(message.reasoning)
    return total


def part_tokens(part: ContentPart) -> int:
    """The tokens of a part of a message: images flat, sound and documents by their size."""
    kind = part.WhichOneof("part")
    if kind in ("text", "refusal"):
        return text_tokens(getattr(part, kind))
    if kind == "image_url":
        return IMAGE_TOKENS.get(part.image_url.detail, IMAGE_TOKENS_OTHERWISE)
    if kind == "input_audio":
        return 1 + len(part.input_audio.data) // AUDIO_BASE64_CHARACTERS_PER_TOKEN
    if kind == "file" and part.file.file_data:
        return 1 + len(part.file.file_data) // FILE_BASE64_CHARACTERS_PER_TOKEN
    return VIDEO_TOKENS if kind == "video_url" else OPAQUE_TOKENS


def written(message: Any) -> str:
    """All texts of a message, as the model reads them in some form."""
    return " ".join(texts(message))


def texts(message: Any) -> Iterator[str]:
    """The texts of a message and of the messages in it."""
    for field, value in message.ListFields():
        if field.cpp_type == field.CPPTYPE_STRING:
            yield from (value if field.is_repeated else (value,))
        elif field.cpp_type == field.CPPTYPE_MESSAGE and not field.is_repeated:
            yield from texts(value)


def output_tokens(chat: Chat, usual: int) -> int:
    """The tokens that the answers may have: what the request allows at most, or else what is usual.

    What is below 1 names no limit: some hosts take -1 for that.
    """
    fields = chat.fields
    named: int = fields.get("max_completion_tokens", 0)
    if named <= 0:
        named = fields.get("max_tokens", 0)
    if named <= 0:
        named = usual
    answers: int = fields.get("n", 1)
    return named * answers if answers > 1 else named
