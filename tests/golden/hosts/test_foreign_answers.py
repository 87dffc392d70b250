"""Every known host takes a conversation in which other vendors have answered, and is told nothing that is theirs alone."""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from gateway_core.known.hosts import Host, LocalServer, known_hosts
from rest_bridge.dialects.openai.request import chat_completion_spec
from tests.golden.hosts.test_hosts import HOSTS, ask, call_of, every_host, says
from tests.support.upstream import Upstream

BLOCK = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
PART = {"executableCode": {"language": "PYTHON", "code": "1"}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}, "index": 0}

ANSWER = {
    "role": "assistant",
    "content": "Let me look.",
    "annotations": [{"type": "url_citation", "url_citation": {"url": "https://a.example", "title": "A"}}],
    "reasoning": "Hm.",
    "reasoning_content": "Hm.",
    "reasoning_details": [
        {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0, "text": "Hm.", "signature": "s1"},
        {"type": "reasoning.encrypted", "format": "google-gemini-v1", "index": 0, "id": "call|1", "data": "s2"},
        {"type": "reasoning.encrypted", "format": "openai-responses-v1", "index": 0, "id": "rs_1", "data": "s3"},
        {"type": "reasoning.encrypted", "format": "bedrock-converse-v1", "index": 0, "data": "czQ="},
    ],
    "tool_calls": [
        {
            "id": "call|1",
            "type": "function",
            # Not whole, as a model wrote it that had no room for more.
            "function": {"name": "now", "arguments": '{"zone": "UT'},
            "extra_content": {"google": {"thought_signature": "s2"}},
        }
    ],
    "anthropic_content": {"1": BLOCK},
    "google_parts": {"0": PART},
    "images": [IMAGE],
}
"""What the SDK sends back of answers: more than any vendor says at once."""

CONVERSATION = {
    "model": "small",
    "messages": [
        {"role": "user", "content": "What time is it?"},
        ANSWER,
        {"role": "tool", "tool_call_id": "call|1", "content": "Noon."},
    ],
    "tools": [{"type": "function", "function": {"name": "now"}}],
}

THEIRS = {"anthropic_content", "google_parts"}
STRICT = ("openai", "azure", "mistral", "groq", "cerebras", "anthropic", "gemini", "ollama", "gemini-openai")
"""Hosts that refuse what they do not know, and those that are spoken to in formats of their own."""


def names(document: Any) -> Iterator[str]:
    """All names of fields in a document."""
    if isinstance(document, dict):
        yield from document
        for value in document.values():
            yield from names(value)
    elif isinstance(document, list):
        for item in document:
            yield from names(item)


async def asked(host: Host | LocalServer, upstream: Upstream, conversation: dict[str, Any]) -> dict[str, Any]:
    """What a host is asked that must not be asked less than the caller wants."""
    upstream.script(says)
    await ask(host, upstream, call_of(chat_completion_spec(conversation), on_unsupported="reject"))
    document = (await upstream.received()).json()
    assert isinstance(document, dict)
    return document


@every_host
async def test_what_other_vendors_said_is_taken_back_without_what_only_they_know(
    host: Host | LocalServer, upstream: Upstream
) -> None:
    document = await asked(host, upstream, CONVERSATION)
    assert not THEIRS & set(names(document))
    assert len(document["contents"] if "contents" in document else document["messages"]) == 3


@pytest.mark.parametrize("name", STRICT)
async def test_a_host_that_refuses_unknown_fields_gets_none_of_an_answer(name: str, upstream: Upstream) -> None:
    document = await asked(known_hosts().named(name), upstream, CONVERSATION)
    allowed = {"openai": {"annotations"}, "azure": {"annotations"}, "gemini-openai": {"extra_content"}}
    theirs = {"annotations", "extra_content", "images", "reasoning_details", "reasoning_content"}
    assert not (theirs - allowed.get(name, set())) & set(names(document))


@pytest.mark.parametrize(
    ("name", "own"), [("anthropic", {"s1"}), ("gemini", {"s2"}), ("ollama", set()), ("openai", set())]
)
async def test_a_signature_goes_back_to_the_vendor_that_gave_it_alone(
    name: str, own: set[str], upstream: Upstream
) -> None:
    text = orjson.dumps(await asked(known_hosts().named(name), upstream, CONVERSATION)).decode()
    assert {signature for signature in ("s1", "s2", "s3", "czQ=") if f'"{signature}"' in text} == own


@pytest.mark.parametrize("name", ["openai", "azure", "mistral", "groq", "cerebras"])
async def test_marks_for_the_cache_of_another_vendor_do_not_reach_a_host_that_refuses_them(
    name: str, upstream: Upstream
) -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    upstream.script(says)
    conversation = {
        "model": "small",
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "Be brief.", **mark}]},
            {"role": "user", "content": "Hi", **mark},
        ],
        "tools": [{"type": "function", "function": {"name": "now"}, **mark}],
        "thinking": {"type": "adaptive"},
    }
    call = call_of(chat_completion_spec(conversation))
    await ask(known_hosts().named(name), upstream, call)
    document = (await upstream.received()).json()
    assert not {"cache_control", "thinking"} & set(names(document))
    assert {rewrite.name for rewrite in call.rewrites} == {
        "messages[0].content[0].cache_control",
        "messages[1].cache_control",
        "tools[0].cache_control",
        "thinking",
    }


@every_host
async def test_an_answer_that_says_nothing_more_comes_back_without_a_word_about_it(
    host: Host | LocalServer, upstream: Upstream
) -> None:
    upstream.script(says)
    answer: dict[str, Any] = {"role": "assistant", "content": "Hi", "refusal": None, "annotations": []}
    turns = [{"role": "user", "content": "Hi"}, answer, {"role": "user", "content": "Bye"}]
    call = call_of(chat_completion_spec({"model": "small", "messages": turns}))
    await ask(host, upstream, call)
    assert not call.rewrites


def test_the_strict_hosts_are_known() -> None:
    assert set(STRICT) <= {host.name for host in HOSTS}
