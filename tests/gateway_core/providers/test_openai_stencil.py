"""A chunk that is, octet by octet, as the last one around its text says what it would say if it were parsed."""

import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.config import ProviderConfig
from gateway_core.errors import ProviderError
from gateway_core.providers.openai.continuation import Continuation
from gateway_core.providers.openai.decoder import Decoder
from gateway_core.upstream.refusal import Refusals
from gateway_core.upstream.sse import Event

AROUND = {"id": "1", "object": "chat.completion.chunk", "created": 7, "model": "m"}
PLAIN = b'{"id":"1","created":7,"model":"m","choices":[{"index":0,"delta":{"content":%s},"finish_reason":null}]}'
PADDED = PLAIN[:-1] + b',"obfuscation":%s}'


def chunk(content: Any, **fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": content}, "logprobs": None, "finish_reason": None}
    return {**AROUND, "choices": [choice], **fields}


def told(
    datas: list[bytes], *, is_known: bool, name: str = "message", cut: int = 0
) -> tuple[list[ChatCompletionChunk], str]:
    """What a stream says, and how it fails; also with every chunk parsed."""
    decoder = Decoder(Refusals("lab", ProviderConfig(kind="openai", base_url="http://host/v1")), "r", 1)
    if not is_known:
        decoder._continuation.learn = lambda data: None  # type: ignore[method-assign]
    said: list[ChatCompletionChunk] = []
    events = [Event(name, data) for data in datas]
    try:
        for part in (events[:cut], events[cut:]):
            said.extend(decoder.together(part))
    except ProviderError as error:
        return said, str(error)
    return said, ""


def known(datas: list[bytes], monkeypatch: pytest.MonkeyPatch) -> int:
    """How many chunks of a stream were known by what is around their texts."""
    count = 0
    text: Callable[[Continuation, bytes], str | None] = Continuation.text

    def counted(self: Continuation, data: bytes) -> str | None:
        nonlocal count
        found = text(self, data)
        count += found is not None
        return found

    monkeypatch.setattr(Continuation, "text", counted)
    told(datas, is_known=True)
    return count


TEXTS = ["a", "b", " c", 'say "x"', "back\\slash", "é", "☃", "\n", "x" * 300]


@pytest.mark.parametrize("write", [orjson.dumps, lambda each: json.dumps(each).encode()])
@pytest.mark.parametrize("padding", [None, "AbC", ""])
def test_most_chunks_are_known(write: Any, padding: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    more = {} if padding is None else {"obfuscation": padding}
    datas = [write(chunk(text, **more)) for text in TEXTS]
    assert told(datas, is_known=True) == told(datas, is_known=False)
    # The first is read, and from the second it is learnt.
    assert known(datas, monkeypatch) == len(TEXTS) - 2


@pytest.mark.parametrize(
    "literal",
    [
        b'""',
        b"7",
        b"null",
        b'["a"]',
        b'{"content":"a"}',
        b'"a',
        b'a"',
        b'"a","x":"b"',
        b'"a","content":"b"',
        b'"a"},"finish_reason":"stop","delta":{"content":"b"',
        b'"a"}}]}',
        b' "a" ',
        b'"\\ud800"',
        b'"\xff"',
        b'"a\nb"',
        b'"\\u0041"',
        b"",
    ],
)
def test_what_stands_in_the_place_of_a_text_is_read_as_ever(literal: bytes) -> None:
    for form, more in ((PLAIN, ()), (PADDED, (b'"pad"',))):
        before = [form % (text, *more) for text in (b'"x"', b'"y"', b'"z"')]
        datas = [*before, form % (literal, *more), *before]
        assert told(datas, is_known=True) == told(datas, is_known=False)


@pytest.mark.parametrize("padding", [b'"a b"', b'"\\""', b"7", b"null", b'"\xc3\xa9"', b'"a","x":"b"', b'""', b'"'])
def test_what_stands_in_the_place_of_a_padding_is_read_as_ever(padding: bytes) -> None:
    before = [PADDED % (text, b'"pad"') for text in (b'"x"', b'"y"', b'"z"')]
    datas = [*before, PADDED % (b'"w"', padding), *before]
    assert told(datas, is_known=True) == told(datas, is_known=False)


@pytest.mark.parametrize(
    "form",
    [
        b'{"id":"1","created":7,"model":"m","choices":[{"index":0,"delta":{"content":"first","content":%s}}]}',
        b'{"id":"1","created":7,"model":"m","choices":[{"index":0,"delta":{"content":%s,"content":"last"}}]}',
        b'{"x":{"content":"other"},"id":"1","created":7,"choices":[{"index":0,"delta":{"content":%s}}]}',
        b'{"id":"\\"content\\":\\"a\\"","created":7,"choices":[{"index":0,"delta":{"content":%s}}]}',
        b'{"id":"1","created":7,"choices":[{"index":0,"delta":{"content":%s}}],"content":"other"}',
        b'{"id":"1","created":7,"choices":[{"index":0,"delta":{"content":"hidden"},"delta":{"content":%s}}]}',
        b'{"id":"1","created":7,"choices":[{"index":0,"delta":{"content":%s}}],"choices":'
        b'[{"index":0,"delta":{"content":"last"}}]}',
        b'{"obfuscation":"pad","id":"1","created":7,"choices":[{"index":0,"delta":{"content":%s}}]}',
        b'{"id":"1","created":7,"choices":[{"index":0,"delta":{"\\u0063ontent":%s}}]}',
        b'{ "id" : "1" , "created" : 7 , "choices" : [ { "index" : 0 , "delta" : { "content" : %s } } ] }',
    ],
)
def test_a_text_is_found_where_it_counts_or_nowhere(form: bytes) -> None:
    datas = [form % text for text in (b'"a"', b'"b"', b'"c"', b'"d"', b'"other"', b'"last"', b'"hidden"')]
    assert told(datas, is_known=True) == told(datas, is_known=False)


def test_an_error_by_its_name_is_one_whatever_it_looks_like() -> None:
    datas = [orjson.dumps(chunk(text)) for text in "abcd"]
    assert told(datas, is_known=True, name="error")[1]
    assert told(datas, is_known=True, name="delta") == told(datas, is_known=False, name="delta")


CHUNKS = st.sampled_from(
    [
        *[orjson.dumps(chunk(text)) for text in ("a", "b", "c", "", 'q"q')],
        *[orjson.dumps(chunk(text, obfuscation=pad)) for text in ("a", "b") for pad in ("x", "yy", "z z")],
        *[orjson.dumps(chunk(text, model="other")) for text in ("a", "b")],
        *[orjson.dumps({**AROUND, "choices": [{"index": 0, "delta": {"reasoning": "r"}}]})],
        *[orjson.dumps({**AROUND, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})],
        *[orjson.dumps({**AROUND, "choices": [], "usage": {"total_tokens": 3}})],
        b"ping",
        b"[DONE]",
        b"{nonsense",
    ]
)


@given(st.lists(CHUNKS, max_size=20), st.integers(0, 20))
def test_a_stream_says_the_same_whether_its_chunks_are_known_or_read(datas: list[bytes], cut: int) -> None:
    assert told(datas, is_known=True, cut=cut) == told(datas, is_known=False, cut=cut)
