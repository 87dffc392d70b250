"""Specs that no provider could answer, sent by generated stubs: the field at fault is named, and it is never our fault."""

import math
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc import StatusCode, aio
from grpc_status import rpc_status
from headgate.v1.chat_completion_service_pb2 import CreateChatCompletionRequest, StreamChatCompletionRequest
from headgate.v1.chat_completion_service_pb2_grpc import ChatCompletionServiceStub
from headgate.v1.chat_pb2 import ChatCompletionSpec
from headgate.v1.message_pb2 import ROLE_TOOL, ROLE_USER

from tests.conftest import lab_config
from tests.support.gateway import running
from tests.support.openai_vendor import completion, streamed
from tests.support.upstream import Upstream, json_answer, sse_answer

HI: dict[str, Any] = {"role": ROLE_USER, "text": "hi"}


@pytest.fixture
async def stub(upstream: Upstream) -> AsyncIterator[Any]:
    async with running(lab_config(upstream.base_url)) as gateway, aio.insecure_channel(gateway.grpc_address) as channel:
        yield ChatCompletionServiceStub(channel)


async def refusal(call: Any) -> tuple[StatusCode, str, str]:
    """What a call ends with: the code, the reason and the path."""
    with pytest.raises(aio.AioRpcError) as caught:
        await (anext(aiter(call)) if hasattr(call, "__aiter__") else call)
    status = rpc_status.from_call(caught.value)
    assert status
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.metadata["param"].partition(".")[0] in status.message
    return caught.value.code(), info.reason, info.metadata["param"]


def tool(**function: Any) -> dict[str, Any]:
    return {"tools": [{"function": {"name": "f"}}, {"function": {"name": "g", **function}}]}


def part(**fields: Any) -> dict[str, Any]:
    return {"messages": [HI, {"role": ROLE_USER, "parts": {"parts": [fields]}}]}


DEEP = '{"a": ' + "[" * 250 + "]" * 250 + "}"
INVALID: list[tuple[dict[str, Any], str]] = [
    ({"model": ""}, "model"),
    ({"messages": []}, "messages"),
    ({"messages": [{"text": "hi"}]}, "messages[0].role"),
    ({"messages": [HI, {"role": 99, "text": "hi"}]}, "messages[1].role"),
    ({"temperature": math.nan}, "temperature"),
    ({"temperature": math.inf}, "temperature"),
    ({"temperature": -0.1}, "temperature"),
    ({"top_p": 1.1}, "top_p"),
    ({"min_p": math.nan}, "min_p"),
    ({"presence_penalty": -math.inf}, "presence_penalty"),
    ({"n": 0}, "n"),
    ({"n": 129}, "n"),
    ({"top_logprobs": -1}, "top_logprobs"),
    ({"max_tokens": -2}, "max_tokens"),
    ({"max_completion_tokens": -2}, "max_completion_tokens"),
    ({"logit_bias": {"7": math.nan}}, "logit_bias.7"),
    ({"logit_bias": {"7": 1e300}}, "logit_bias.7"),
    (part(), "messages[1].parts[0].part"),
    (part(other_json="{"), "messages[1].content.other_json"),
    (part(other_json=DEEP), "messages[1].content.other_json"),
    (part(text="hi", extra_json="[]"), "messages[1].content.extra_json"),
    (part(image_url={"url": "u", "extra_json": "nix"}), "messages[1].content.image_url.extra_json"),
    (part(file={"extra_json": "1"}), "messages[1].content.file.extra_json"),
    ({"messages": [{**HI, "extra_json": "null"}]}, "messages[0].extra_json"),
    ({"messages": [{"role": ROLE_TOOL, "tool_calls": [{"other_json": "{]"}]}]}, "messages[0].tool_calls.other_json"),
    ({"messages": [{**HI, "reasoning_details": [{"extra_json": "{"}]}]}, "messages[0].reasoning_details.extra_json"),
    ({"messages": [{**HI, "function_call": {"extra_json": "{"}}]}, "messages[0].function_call.extra_json"),
    ({"messages": [{**HI, "audio": {"extra_json": "{"}}]}, "messages[0].audio.extra_json"),
    ({"tools": [{}]}, "tools[0].tool"),
    ({"tools": [{"function": {}}]}, "tools[0].function.name"),
    ({"tools": [{"custom": {}}]}, "tools[0].custom.name"),
    ({"tools": [{"other_json": "nix"}]}, "tools[0].other_json"),
    (tool(parameters_json=""), "tools[1].function.parameters_json"),
    (tool(parameters_json="{'type': 'object'}"), "tools[1].function.parameters_json"),
    (tool(parameters_json="true"), "tools[1].function.parameters_json"),
    (tool(parameters_json=DEEP), "tools[1].function.parameters_json"),
    (tool(extra_json="{"), "tools[1].function.extra_json"),
    ({"tools": [{"custom": {"name": "c", "format": {"extra_json": "{"}}}]}, "tools[0].custom.format.extra_json"),
    ({"functions": [{}]}, "functions[0].name"),
    ({"functions": [{"name": "f", "parameters_json": "{"}]}, "functions[0].parameters_json"),
    ({"tool_choice": {}}, "tool_choice.choice"),
    ({"tool_choice": {"other_json": "{"}}, "tool_choice.other_json"),
    ({"tool_choice": {"function_name": "f", "extra_json": "{"}}, "tool_choice.extra_json"),
    ({"tool_choice": {"allowed_tools": {"tools_json": ["{"]}}}, "tool_choice.allowed_tools.tools_json"),
    ({"function_call": {"name": "f", "extra_json": "{"}}, "function_call.extra_json"),
    ({"response_format": {}}, "response_format.type"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.name"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema_json": "{"}}},
        "response_format.json_schema.schema_json",
    ),
    ({"audio": {"extra_json": "{"}}, "audio.extra_json"),
    ({"prediction": {"extra_json": "{"}}, "prediction.extra_json"),
    ({"web_search_options": {"extra_json": "{"}}, "web_search_options.extra_json"),
    ({"prompt_cache_options": {"extra_json": "{"}}, "prompt_cache_options.extra_json"),
    ({"moderation": {}}, "moderation.model"),
    ({"moderation": {"model": "m", "policy": {"extra_json": "{"}}}, "moderation.policy.extra_json"),
    ({"extra_json": "nix"}, "extra_json"),
    ({"extra_json": "[]"}, "extra_json"),
    ({"extra_json": '{"a": NaN}'}, "extra_json"),
    ({"extra_json": DEEP}, "extra_json"),
    ({"extra_json": '{"x_vendor": 1, "n": 2}'}, "extra_json.n"),
    ({"extra_json": '{"temperature": null}', "extra_format": "openai"}, "extra_json.temperature"),
    ({"extra_json": DEEP, "extra_format": "openai"}, "extra_json"),
]


async def test_an_invalid_field_is_named(stub: Any, upstream: Upstream) -> None:
    for fields, param in INVALID:
        spec: Any = {"model": "lab/tiny", "messages": [HI], **fields}
        expected = (StatusCode.INVALID_ARGUMENT, "ERROR_REASON_INVALID_REQUEST", param)
        assert await refusal(stub.CreateChatCompletion(CreateChatCompletionRequest(spec=spec))) == expected
        assert await refusal(stub.StreamChatCompletion(StreamChatCompletionRequest(spec=spec))) == expected
    assert not upstream.requests
    upstream.script(json_answer(completion({"content": "Hello"})))
    good: Any = {"model": "lab/tiny", "messages": [HI]}
    assert (await stub.CreateChatCompletion(CreateChatCompletionRequest(spec=good))).completion.choices


async def test_wherever_json_is_carried_what_is_none_is_refused(stub: Any, upstream: Upstream) -> None:
    upstream.script(sse_answer(streamed("Hello")))
    places = list(json_places(ChatCompletionSpec.DESCRIPTOR))
    assert len(places) > 40
    for place in places:
        spec = ChatCompletionSpec(model="lab/tiny")
        fill(spec, place)
        if not spec.messages:
            spec.messages.add(role=ROLE_USER, text="hi")
        call = stub.StreamChatCompletion(StreamChatCompletionRequest(spec=spec))
        code, _, param = await refusal(call)
        assert code is StatusCode.INVALID_ARGUMENT
        assert param.rpartition(".")[2] == place[-1].name, param
    assert not upstream.requests


def json_places(descriptor: Any) -> Iterator[list[FieldDescriptor]]:
    """The ways to all fields of a message, and of those inside it, that carry JSON text."""
    for field in descriptor.fields:
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for rest in json_places(field.message_type):
                yield [field, *rest]
        elif field.name.endswith("_json"):
            yield [field]


def fill(message: Message, place: list[FieldDescriptor]) -> None:
    """Writes what is no JSON at a place, and on the way to it what the contract requires."""
    field, *rest = place
    for sibling in message.DESCRIPTOR.fields:
        is_choice = sibling.containing_oneof is not None and len(sibling.containing_oneof.fields) > 1
        if sibling.name in ("name", "type", "model") and not is_choice:
            setattr(message, sibling.name, "lab/tiny")
        elif sibling.name == "role":
            setattr(message, sibling.name, ROLE_USER)
    for oneof in message.DESCRIPTOR.oneofs:
        # A mode is written as a word: it has no room for more fields.
        chosen = [each for each in oneof.fields if each.name not in ("mode", field.name)]
        if len(oneof.fields) > 1 and oneof is not field.containing_oneof:
            choose(message, chosen[0])
    if rest:
        inner = getattr(message, field.name)
        fill(inner.add() if field.is_repeated else inner, rest)
    elif field.is_repeated:
        getattr(message, field.name).append("{")
    else:
        setattr(message, field.name, "{")


def choose(message: Message, field: Any) -> None:
    """Sets one member of a oneof."""
    if field.message_type is None:
        setattr(message, field.name, "x")
    else:
        inner = getattr(message, field.name)
        inner.SetInParent()
        if "name" in field.message_type.fields_by_name:
            inner.name = "x"
