"""A request of which nothing has to be left out is written at once, as with a look at each of its fields."""

from random import Random
from typing import Any

import orjson
import pytest
from google.protobuf.descriptor import FieldDescriptor
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ROLE_ASSISTANT, ROLE_SYSTEM, ROLE_TOOL, ROLE_USER, ChatMessage

from gateway_core.call import Call, Target
from gateway_core.chat import chat_of
from gateway_core.config import ProviderConfig
from gateway_core.errors import GatewayError
from gateway_core.known.hosts import Quirks
from gateway_core.providers.openai.provider import Provider
from gateway_core.providers.openai.request import AS_THEY_ARE, plain_document
from gateway_core.services.chat_completion import ChatCompletion

FIELDS: list[Any] = [field for field in ChatCompletionSpec.DESCRIPTOR.fields if field.name != "messages"]
TEXTS = ("", "Hi", 'a "b" \\ c', "höhe ☃ 🙂", "\x00\x7f\u2028", '{"top_k": 3, "prefill": "x"}', "openai", "none")
ROLES = (ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT)
VALUES: dict[int, tuple[Any, ...]] = {
    FieldDescriptor.CPPTYPE_STRING: TEXTS,
    FieldDescriptor.CPPTYPE_BOOL: (False, True),
    FieldDescriptor.CPPTYPE_FLOAT: (0.0, 1.0, 0.1, -2.5),
    FieldDescriptor.CPPTYPE_DOUBLE: (0.0, 1.0, 0.1, -2.5, 1e300),
}
NUMBERS = (0, 1, -1, 2**31 - 1)


def put(spec: ChatCompletionSpec, field: FieldDescriptor, random: Random) -> None:
    """Sets a field to something; of the messages inside, that they are there."""
    value = getattr(spec, field.name)
    if field.is_repeated:
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            value.append(random.choice(TEXTS))
        elif hasattr(value, "add"):
            value.add()
        elif field.name == "logit_bias":
            value["12"] = random.choice((1.0, 0.5))
        else:
            value["name"] = random.choice(TEXTS)
    elif field.message_type is not None:
        value.SetInParent()
    else:
        setattr(spec, field.name, random.choice(VALUES.get(field.cpp_type, NUMBERS)))


def message(random: Random) -> ChatMessage:
    """Mostly a role and a text."""
    kind = random.randrange(12)
    if kind == 0:
        return ChatMessage(role=ROLE_TOOL, text="3", tool_call_id="c1")
    if kind == 1:
        return ChatMessage(role=ROLE_USER, text="Hi", extra_json='{"cache_control": {}, "google_parts": []}')
    if kind == 2:
        return ChatMessage(role=ROLE_ASSISTANT)
    return ChatMessage(role=random.choice(ROLES), text=random.choice(TEXTS))


def call_of(spec: ChatCompletionSpec, target: Target, *, stream: bool) -> Call[ChatCompletionSpec]:
    call = Call(request_id="r1", operation=ChatCompletion(), asked=spec, stream=stream)
    call.target = target
    return call


def provider(**config: Any) -> Provider:
    return Provider("lab", ProviderConfig(kind="openai", base_url="http://127.0.0.1:1", **config))


def became(of: Provider, call: Call[ChatCompletionSpec], *, careful: bool) -> Any:
    """What is sent and what the caller is told of it; or the failure."""
    assert call.target is not None
    try:
        document = of._careful_document(call, chat_of(call), call.target) if careful else of._document(call)
        return orjson.loads(orjson.dumps(document)), call.rewrites
    except GatewayError as error:
        return type(error), error.message, error.metadata


@pytest.mark.parametrize("seed", range(8))
async def test_a_request_is_written_as_with_a_look_at_each_of_its_fields(seed: int) -> None:
    random = Random(seed)
    providers = [
        provider(),
        provider(unsupported_parameters=["temperature", "stream_options", "seed"]),
        provider(quirks=Quirks(developer_role=False, one_answer=True)),
    ]
    targets = [
        Target("lab", "tiny"),
        Target("lab", "höhe", "reject"),
        Target("lab", "tiny", "drop", frozenset({"top_p", "seed"})),
        Target("lab", "tiny", unsupported_while_reasoning=frozenset({"temperature"})),
    ]
    plain = 0
    for _ in range(400):
        spec = ChatCompletionSpec(messages=[message(random) for _ in range(random.randrange(4))])
        few = [field for field in FIELDS if field.name in AS_THEY_ARE or random.random() < 0.02]
        for field in random.sample(few, random.randrange(6)):
            put(spec, field, random)
        one, target, stream = random.choice(providers), random.choice(targets), random.random() < 0.2
        told = became(one, call_of(spec, target, stream=stream), careful=False)
        assert told == became(one, call_of(spec, target, stream=stream), careful=True), spec
        chat = chat_of(call_of(spec, target, stream=stream))
        plain += chat.fields.keys() <= AS_THEY_ARE and plain_document(chat, "") is not None
    assert plain > 100
    for each in providers:
        await each.close()


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
async def test_each_field_alone_is_written_likewise(field: FieldDescriptor) -> None:
    of = provider()
    spec = ChatCompletionSpec(messages=[ChatMessage(role=ROLE_USER, text="Hi")])
    put(spec, field, Random(3))
    target = Target("lab", "tiny")
    first = became(of, call_of(spec, target, stream=False), careful=False)
    assert first == became(of, call_of(spec, target, stream=False), careful=True)
    await of.close()


def test_a_chat_that_is_read_once_is_not_changed_by_what_is_written_of_it() -> None:
    spec = ChatCompletionSpec(model="small", messages=[ChatMessage(role=ROLE_USER, text="Hi")], temperature=0.5)
    chat = chat_of(call_of(spec, Target("lab", "tiny"), stream=False))
    before = dict(chat.fields), list(chat.turns)
    document = plain_document(chat, "tiny")
    assert document == {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0.5}
    assert (dict(chat.fields), list(chat.turns)) == before
