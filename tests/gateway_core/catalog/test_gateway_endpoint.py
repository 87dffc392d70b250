"""Tests of endpoints of gateways' owners, and of answers with their beginning."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from headgate.v1.chat_completion_pb2 import AnswerMessage, ChatCompletionChunk, ChunkChoice
from headgate.v1.gateway_pb2 import Gateway, OwnEndpoint

from gateway_core.call import Events, Given
from gateway_core.catalog import gateway_endpoint
from gateway_core.catalog.gateway import Version, secret_place, stored
from gateway_core.catalog.gateway_echo import echoed
from gateway_core.catalog.gateway_endpoint import Endpoints
from gateway_core.config import Config
from gateway_core.providers import anthropic, openai
from gateway_core.storage.errors import SecretUnreadable
from gateway_core.storage.gateway import GatewayRow
from gateway_core.storage.secret_box import SecretBox

BOX = SecretBox("k" * 32, "the test")
URL = "https://own.example/v1"


def version(number: int = 1, secret: bytes | None = None, base_url: str = URL) -> Version:
    gateway = Gateway(name="g", endpoint=OwnEndpoint(base_url=base_url, model="mine"))
    return Version.of(GatewayRow("1", "a", "g", "g:1", number, 1, 1, stored(gateway), secret))


@pytest.fixture
async def endpoints() -> AsyncIterator[Endpoints]:
    made = Endpoints(Config(), BOX)
    yield made
    await made.close()


async def test_a_version_has_one_provider_and_the_next_another(endpoints: Endpoints) -> None:
    first = endpoints.target(version(1))
    assert endpoints.target(version(1)) is first
    assert endpoints.target(version(2)).endpoint is not first.endpoint


async def test_those_that_were_asked_last_are_kept(endpoints: Endpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_endpoint, "KEPT_AT_MOST", 2)
    first, second = endpoints.target(version(1)), endpoints.target(version(2))
    endpoints.target(version(1))
    endpoints.target(version(3))
    assert endpoints.target(version(1)) is first
    assert endpoints.target(version(2)) is not second


async def test_what_is_known_of_a_host_holds_for_an_endpoint_there(endpoints: Endpoints) -> None:
    target = endpoints.target(version(base_url="https://api.openai.com/v1"))
    assert "top_k" in target.unsupported


async def test_an_endpoint_is_asked_by_the_api_that_is_known_of_its_host(endpoints: Endpoints) -> None:
    target = endpoints.target(version(base_url="https://api.anthropic.com/v1"))
    assert isinstance(target.endpoint, anthropic.Provider)
    assert isinstance(endpoints.target(version(2)).endpoint, openai.Provider)


async def test_a_key_opens_for_its_own_address_only(endpoints: Endpoints) -> None:
    sealed = BOX.seal("sk-own", secret_place("1", "https://elsewhere.example/v1"))
    with pytest.raises(SecretUnreadable):
        endpoints.target(version(secret=sealed))


def event(*contents: str | None, finish: str | None = None) -> ChatCompletionChunk:
    choices = [
        ChunkChoice(index=index, delta=AnswerMessage(content=content), finish_reason=finish)
        for index, content in enumerate(contents)
    ]
    return ChatCompletionChunk(choices=choices)


class Closed:
    """Events that tell whether they were closed."""

    def __init__(self, *events: ChatCompletionChunk) -> None:
        self.events = events
        self.is_closed = False

    async def generator(self) -> Events:
        try:
            for each in self.events:
                yield each
        finally:
            self.is_closed = True


async def said(events: Any, beginning: str = "{") -> dict[int, str]:
    texts: dict[int, str] = {}
    async for each in await echoed(events, beginning):
        for choice in each.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.delta.content
    return texts


async def test_each_answer_of_a_stream_begins_once() -> None:
    stream = Closed(event(None), event("", ""), event("a", "b"), event("c"), ChatCompletionChunk())
    assert await said(stream.generator()) == {0: "{ac", 1: "{b"}


async def test_an_answer_that_says_nothing_is_its_beginning() -> None:
    assert await said(Closed(event(None), event(None, finish="stop")).generator()) == {0: "{"}


async def test_a_whole_answer_begins_with_it_and_has_no_document() -> None:
    given = await echoed(Given(event("a", finish="stop"), json=b"{}"), "{")
    assert isinstance(given, Given)
    assert given.json is None
    assert given.events[0].choices[0].delta.content == "{a"


async def test_the_events_themselves_stay_as_they_were() -> None:
    original = event("a")
    await said(Closed(original).generator())
    assert original.choices[0].delta.content == "a"


async def test_leaving_before_the_first_event_closes_the_stream() -> None:
    stream = Closed(event("a"))
    events = stream.generator()
    await anext(events)
    await (await echoed(events, "{")).aclose()
    assert stream.is_closed
