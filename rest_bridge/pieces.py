"""The pieces in which a provider sent a text: chunks may have several together, and events have each for itself."""

import re
from collections.abc import Sequence

import orjson
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk

OBFUSCATION = re.compile(r'\{"obfuscation":"([ !#-\[\]-~]*)"\}')
"""The unknown field that OpenAI's chunks have: another padding in each, which is carried on as it came.

Of pieces that are together there are as many, with spaces between them.
"""


def pieces(text: str, lengths: Sequence[int]) -> list[str]:
    """A text in pieces of the lengths that its chunk tells; whole where they do not add up to it."""
    parts = []
    start = 0
    for length in lengths:
        parts.append(text[start : start + length])
        start += length
    return parts if start == len(text) else [text]


def apart(chunk: ChatCompletionChunk) -> list[ChatCompletionChunk]:
    """A chunk for each piece: what else it says is in each of them, but for text and paddings, which are in pieces."""
    if not chunk.piece_lengths or len(chunk.choices) != 1:
        return [chunk]
    texts = pieces(chunk.choices[0].delta.content, chunk.piece_lengths)
    extras = extras_of(chunk.extra_json, len(texts))
    if extras is None:
        return [chunk]
    around = ChatCompletionChunk()
    around.CopyFrom(chunk)
    # Each piece is made from a copy of what is around it: with all of the text in it, that would take its square.
    around.choices[0].delta.content = around.extra_json = ""
    del around.piece_lengths[:]
    found = []
    for text, extra in zip(texts, extras, strict=True):
        one = ChatCompletionChunk()
        one.CopyFrom(around)
        one.choices[0].delta.content = text
        one.extra_json = extra
        found.append(one)
    return found


def extras_of(extra_json: str, count: int) -> list[str] | None:
    """The unknown fields of so many pieces, each with its padding. None: the paddings are those of others."""
    if "obfuscation" not in extra_json:
        return [extra_json] * count
    extra = orjson.loads(extra_json)
    padding = extra.pop("obfuscation", None)
    if type(padding) is not str:
        return [extra_json] * count
    paddings = paddings_of(padding, count)
    return None if paddings is None else [orjson.dumps({**extra, "obfuscation": each}).decode() for each in paddings]


def paddings_of(padding: str, count: int) -> list[str] | None:
    """The paddings of so many pieces. None: those are others."""
    paddings = padding.split(" ") if count > 1 else [padding]
    return paddings if len(paddings) == count else None
