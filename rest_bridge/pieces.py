"""The pieces in which a provider sent a text: chunks may have several together, and events have each for itself."""

import re
from collections.abc import Sequence

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
    """A chunk for each piece: what else it says is in each of them, and the answer's text is in pieces."""
    if not chunk.piece_lengths or len(chunk.choices) != 1:
        return [chunk]
    texts = pieces(chunk.choices[0].delta.content, chunk.piece_lengths)
    padding = OBFUSCATION.fullmatch(chunk.extra_json)
    paddings = paddings_of(padding[1], len(texts)) if padding else None
    found = []
    for at, text in enumerate(texts):
        one = ChatCompletionChunk()
        one.CopyFrom(chunk)
        one.choices[0].delta.content = text
        del one.piece_lengths[:]
        if paddings is not None:
            one.extra_json = f'{{"obfuscation":"{paddings[at]}"}}'
        found.append(one)
    return found


def paddings_of(padding: str, count: int) -> list[str] | None:
    """The paddings of so many pieces. None: those are others."""
    paddings = padding.split(" ") if count > 1 else [padding]
    return paddings if len(paddings) == count else None
