"""What becomes of the parts of a request that Bedrock, or a model there, cannot take."""

from typing import Any

import orjson
import pytest
from google.protobuf import json_format
from headgate.v1.chat_pb2 import ChatCompletionSpec

from gateway_core.errors import InvalidRequest
from gateway_core.providers.bedrock.family import FAMILIES, family, known_effort
from gateway_core.providers.bedrock.request import MODELS, written
from gateway_core.providers.bedrock.written import Written

CLAUDE_3_5 = "anthropic.claude-3-5-sonnet-20241022-v2:0"
CLAUDE_4_5 = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
CLAUDE_4_6 = "eu.anthropic.claude-opus-4-6-v1"
CLAUDE_5 = "global.anthropic.claude-opus-5"
HI = {"role": "ROLE_USER", "text": "Hi"}
CALL = {"id": "t1", "function": {"name": "now", "arguments": "{}"}}
UNSIGNED = [
    HI,
    {"role": "ROLE_ASSISTANT", "reasoning": "Hm.", "toolCalls": [CALL]},
    {"role": "ROLE_TOOL", "toolCallId": "t1", "text": "noon"},
]
TOOL = {"function": {"name": "now"}}


def asked(model: str = CLAUDE_3_5, left_out: frozenset[str] = frozenset(), **fields: Any) -> Written:
    spec = json_format.ParseDict({"model": "m", "messages": [HI], **fields}, ChatCompletionSpec())
    return written(spec, model, left_out)


def names(found: Written) -> tuple[list[str], list[str]]:
    """What was left out, and what was changed."""
    return list(found.left_out), [rewrite.name for rewrite in found.rewrites]


@pytest.mark.parametrize(
    ("model", "reasoning"),
    [
        ("anthropic.claude-3-haiku-20240307-v1:0", None),
        (CLAUDE_3_5, None),
        ("anthropic.claude-instant-v1", None),
        ("anthropic.claude-v2:1", None),
        ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", "budget"),
        ("anthropic.claude-opus-4-20250514-v1:0", "budget"),
        ("anthropic.claude-opus-4-1-20250805-v1:0", "budget"),
        (CLAUDE_4_5, "budget"),
        ("anthropic.claude-haiku-4-5-20251001-v1:0", "budget"),
        (CLAUDE_4_6, "adaptive"),
        ("anthropic.claude-opus-4-7", "adaptive"),
        (CLAUDE_5, "adaptive"),
        ("arn:aws:bedrock:us-east-1::foundation-model/" + CLAUDE_4_6.removeprefix("eu."), "adaptive"),
        ("amazon.nova-pro-v1:0", None),
        ("us.amazon.nova-2-lite-v1:0", "nova"),
        ("openai.gpt-oss-20b-1:0", "effort"),
        ("us.deepseek.r1-v1:0", None),
        ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc", None),
    ],
)
def test_the_family_of_a_model_is_found_by_its_id_or_its_arn(model: str, reasoning: str | None) -> None:
    assert family(model).reasoning == reasoning


def test_every_effort_stands_for_one_that_the_family_knows() -> None:
    for _, kin in FAMILIES:
        for effort in ("minimal", "low", "medium", "high", "xhigh", "max"):
            assert known_effort(kin.efforts, effort) in kin.efforts
        assert known_effort(kin.efforts, "much") is None


@pytest.mark.parametrize(
    ("model", "fields", "left_out"),
    [
        (CLAUDE_4_5, {"toolChoice": {"mode": "required"}, "tools": [TOOL]}, True),
        (CLAUDE_4_5, {"toolChoice": {"functionName": "now"}, "tools": [TOOL]}, True),
        (CLAUDE_4_5, {"toolChoice": {"mode": "auto"}, "tools": [TOOL]}, False),
        (CLAUDE_4_5, {"prefill": "It"}, True),
        (CLAUDE_4_5, {"messages": UNSIGNED}, True),
        (CLAUDE_4_6, {"messages": UNSIGNED}, False),
        (CLAUDE_4_5, {"messages": [*UNSIGNED, {"role": "ROLE_ASSISTANT", "text": "Noon."}, HI]}, False),
        (CLAUDE_4_5, {"maxTokens": 1279}, True),
        (CLAUDE_4_5, {"maxTokens": 1280}, False),
        (CLAUDE_3_5, {}, True),
    ],
)
def test_a_model_is_asked_to_reason_only_where_it_may(model: str, fields: Any, left_out: bool) -> None:
    found = asked(model, reasoningEffort="medium", **fields)
    assert ("reasoning_effort" in found.left_out) == left_out
    assert (MODELS in found.document) != left_out


def test_a_model_that_does_not_reason_need_not_be_told_to_rest() -> None:
    found = asked(CLAUDE_3_5, reasoningEffort="none")
    assert names(found) == ([], [])
    assert MODELS not in found.document


def test_one_request_leaves_nothing_to_the_next() -> None:
    assert asked(CLAUDE_4_5, reasoningEffort="none", topK=5).document[MODELS]["top_k"] == 5
    assert asked(CLAUDE_4_5, reasoningEffort="none").document[MODELS] == {"thinking": {"type": "disabled"}}


def test_an_effort_that_is_not_known_becomes_the_next_lower_and_that_is_told() -> None:
    found = asked(CLAUDE_4_6, reasoningEffort="xhigh")
    assert found.document[MODELS]["output_config"] == {"effort": "high"}
    assert names(found) == ([], ["reasoning_effort"])
    assert names(asked(CLAUDE_4_6, reasoningEffort="much")) == (["reasoning_effort"], [])


@pytest.mark.parametrize(
    ("model", "fields", "left_out", "config"),
    [
        (CLAUDE_3_5, {"temperature": 0.5, "topP": 0.5}, [], {"temperature": 0.5, "topP": 0.5}),
        (CLAUDE_4_5, {"temperature": 0.5, "topP": 0.5}, ["top_p"], {"temperature": 0.5}),
        (CLAUDE_4_5, {"topP": 0.5}, [], {"topP": 0.5}),
        (CLAUDE_4_5, {"temperature": 0.5, "topK": 1, "reasoningEffort": "low"}, ["temperature", "top_k"], None),
        (CLAUDE_4_5, {"temperature": 1, "reasoningEffort": "low"}, [], {"temperature": 1}),
        (CLAUDE_4_5, {"temperature": 0.5, "reasoningEffort": "none"}, [], {"temperature": 0.5}),
        (CLAUDE_5, {"temperature": 0.5, "topP": 0.9, "topK": 3}, ["temperature", "top_p", "top_k"], None),
        ("us.deepseek.r1-v1:0", {"topK": 3}, ["top_k"], None),
    ],
)
def test_a_model_is_told_how_to_sample_only_where_it_takes_it(
    model: str, fields: Any, left_out: list[str], config: Any
) -> None:
    found = asked(model, **fields)
    assert list(found.left_out) == left_out
    assert found.document.get("inferenceConfig") == config


def test_a_prefill_ends_the_conversation_where_the_model_takes_one() -> None:
    assert asked(CLAUDE_3_5, prefill="It").document["messages"][-1] == {
        "role": "assistant",
        "content": [{"text": "It"}],
    }
    assert names(asked(CLAUDE_4_6, prefill="It")) == (["prefill"], [])


def test_reasoning_that_nobody_signed_is_not_sent_back_and_that_is_told() -> None:
    found = asked(messages=UNSIGNED, tools=[TOOL])
    assert names(found) == ([], ["messages[1].reasoning"])
    foreign = {"type": "reasoning.encrypted", "data": "abc", "format": "openai-responses-v1"}
    told = asked(messages=[HI, {"role": "ROLE_ASSISTANT", "text": "a", "reasoningDetails": [foreign]}, HI])
    assert names(told) == ([], ["messages[1].reasoning_details"])
    assert told.document["messages"][1]["content"] == [{"text": "a"}]


def test_tools_cannot_be_forbidden_once_they_were_called() -> None:
    found = asked(messages=UNSIGNED, tools=[TOOL], toolChoice={"mode": "none"})
    assert "tool_choice" in found.left_out
    assert found.document["toolConfig"]["tools"]


def test_what_converse_has_no_word_for_is_left_out_by_its_path() -> None:
    user = {
        "role": "ROLE_USER",
        "name": "Ada",
        "parts": {"parts": [{"text": "a", "extraJson": '{"x": 1}'}, {"otherJson": '{"type": "y"}'}]},
    }
    found = asked(
        messages=[user],
        tools=[TOOL, {"custom": {"name": "c"}}, {"otherJson": "{}"}],
        responseFormat={"type": "json_object"},
    )
    assert names(found)[0] == [
        "messages[0].name", "messages[0].content[0].x", "messages[0].content[1]", "tools[1]", "tools[2]",
        "response_format",
    ]  # fmt: skip


def test_what_the_target_does_not_take_is_not_written() -> None:
    found = asked(CLAUDE_4_5, frozenset({"tools", "topK", "reasoning_effort"}), tools=[TOOL], reasoningEffort="low")
    assert found.document.keys() == {"messages"}


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"imageUrl": {"url": "https://example.org/cat.png"}}, "image_url"),
        ({"imageUrl": {"url": "data:image/tiff;base64,AAAA"}}, "image_url"),
        ({"imageUrl": {"url": "s3://bucket/cat"}}, "image_url"),
        ({"videoUrl": {"url": "https://example.org/cat.mp4"}}, "video_url"),
        ({"file": {"fileId": "file-1"}}, "file"),
        ({"file": {"fileData": "AAAA", "filename": "data.bin"}}, "file"),
    ],
)
def test_media_that_bedrock_cannot_be_given_are_refused_by_their_path(part: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as failure:
        asked(messages=[{"role": "ROLE_USER", "parts": {"parts": [{"text": "a"}, part]}}])
    assert failure.value.metadata["param"] == f"messages[0].content[1].{param}"


@pytest.mark.parametrize(
    ("model", "is_taken"),
    [
        (CLAUDE_3_5, True),
        (CLAUDE_4_6, True),
        ("arn:aws:bedrock:us-east-1:1:application-inference-profile/abc123", True),
        ("arn:aws:bedrock:us-east-1:1:inference-profile/us.anthropic.claude-opus-4-6-v1", True),
        ("amazon.nova-pro-v1:0", False),
        ("us.deepseek.r1-v1:0", False),
        ("openai.gpt-oss-120b-1:0", False),
        ("arn:aws:bedrock:us-east-1::foundation-model/meta.llama3-1-8b-instruct-v1:0", False),
    ],
)
def test_thoughts_that_claude_has_signed_go_back_to_claude_alone(model: str, is_taken: bool) -> None:
    thought = {"type": "reasoning.text", "format": "anthropic-claude-v1", "text": "Hm.", "signature": "s"}
    found = asked(model, messages=[HI, {"role": "ROLE_ASSISTANT", "text": "Hi", "reasoningDetails": [thought]}, HI])
    kinds = [kind for block in found.document["messages"][1]["content"] for kind in block]
    assert kinds == (["reasoningContent", "text"] if is_taken else ["text"])
    assert names(found) == ([], [] if is_taken else ["messages[1].reasoning_details"])


@pytest.mark.parametrize("arguments", ["{", "[]", "1"])
def test_arguments_that_a_model_did_not_write_as_an_object_are_said_as_a_text(arguments: str) -> None:
    call = {"id": "t1", "function": {"name": "now", "arguments": arguments}}
    document = asked(messages=[HI, {"role": "ROLE_ASSISTANT", "toolCalls": [CALL, call]}]).document
    assert document["messages"][1]["content"][1]["toolUse"]["input"] == {"INVALID_JSON": arguments}


def test_what_came_with_another_vendors_answer_is_left_out_whatever_may_be_dropped() -> None:
    call = {**CALL, "extraJson": '{"extra_content": {"google": {"thought_signature": "c2ln"}}}'}
    answer = {"role": "ROLE_ASSISTANT", "toolCalls": [call], "extraJson": '{"annotations": [], "images": [1]}'}
    left_out, changed = names(asked(messages=[HI, answer], tools=[TOOL]))
    assert (left_out, changed) == ([], ["messages[1].images", "messages[1].tool_calls[0].extra_content"])


def test_a_function_message_of_the_older_form_is_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"messages\[1\]\.role"):
        asked(messages=[HI, {"role": "ROLE_FUNCTION", "name": "f", "text": "1"}])


def test_the_names_of_documents_are_all_different() -> None:
    parts = [{"file": {"fileData": "data:text/plain,a", "filename": f"{'n' * 300}.txt"}} for _ in range(3)]
    found = asked(messages=[{"role": "ROLE_USER", "parts": {"parts": parts}}])
    called = [block["document"]["name"] for block in found.document["messages"][0]["content"]]
    assert len(set(called)) == 3
    assert all(len(name) <= 200 for name in called)


def test_a_request_is_json() -> None:
    assert orjson.dumps(asked(CLAUDE_4_5, metadata={"a": "b"}, stop=["x"]).document)


def test_a_mark_for_the_cache_in_a_result_stands_after_it() -> None:
    marked = {"text": "noon", "extraJson": '{"cache_control": {"type": "ephemeral"}}'}
    result = {"role": "ROLE_TOOL", "toolCallId": "t1", "parts": {"parts": [marked]}}
    found = asked(messages=[*UNSIGNED[:2], result], tools=[TOOL])
    assert found.document["messages"][-1]["content"] == [
        {"toolResult": {"toolUseId": "t1", "content": [{"text": "noon"}]}},
        {"cachePoint": {"type": "default"}},
    ]


@pytest.mark.parametrize(("tier", "written_tier"), [("auto", None), ("flex", {"type": "flex"}), ("scale", None)])
def test_a_service_tier_is_told_where_bedrock_has_it(tier: str, written_tier: Any) -> None:
    found = asked(serviceTier=tier)
    assert found.document.get("serviceTier") == written_tier
    assert ("service_tier" in found.left_out) == (tier == "scale")


def test_a_schema_that_would_be_refused_says_in_words_what_it_cannot_hold_the_model_to() -> None:
    text = '{"type": "object", "properties": {"age": {"type": "integer", "minimum": 0}}}'
    form = {"type": "json_schema", "jsonSchema": {"name": "a", "schemaJson": text}}
    tool = {"function": {"name": "now", "parametersJson": text, "strict": True}}
    found = asked(responseFormat=form, tools=[tool])
    closed = {
        "type": "object",
        "properties": {"age": {"type": "integer", "description": '{"minimum":0}'}},
        "additionalProperties": False,
    }
    structure = found.document["outputConfig"]["textFormat"]["structure"]
    assert orjson.loads(structure["jsonSchema"]["schema"]) == closed
    assert found.document["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"] == closed
    paths = ["tools[0].function.parameters", "response_format.json_schema"]
    assert names(found) == ([], paths)


@pytest.mark.parametrize(("model", "is_told"), [("us.anthropic.claude-opus-5-5-v1", False), (CLAUDE_5, True)])
def test_a_model_that_cannot_rest_is_not_told_to(model: str, is_told: bool) -> None:
    found = asked(model, reasoningEffort="none")
    assert (MODELS in found.document) is is_told
    assert names(found) == ([] if is_told else ["reasoning_effort"], [])
