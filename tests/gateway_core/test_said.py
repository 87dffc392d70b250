"""What a whole answer says is what its events say one after the other, to the meter and to the telemetry."""

import pytest
from google.protobuf import text_format
from headgate.v1.chat_completion_pb2 import ChatCompletionChunk

from gateway_core.call import Given
from gateway_core.metering.usage import Measure
from gateway_core.said import Said, said_of
from gateway_core.telemetry.record import NO_SPAN, CallRecord
from gateway_core.tokens import Tokens
from tests.gateway_core.telemetry.calls import new_call

WHOLE = "id: 'c1' model: 'tiny' choices { delta { content: 'Hello' } finish_reason: 'stop' }"
ANSWERS = {
    "nothing": [],
    "an empty event": [""],
    "a text": [WHOLE],
    "a text and its usage": [WHOLE + " usage { prompt_tokens: 9 completion_tokens: 1 }"],
    "usage within what can be meant": [WHOLE + " usage { prompt_tokens: -1 completion_tokens: 99999999999 }"],
    "zeros that were told": [
        WHOLE
        + " usage { prompt_tokens_details { cached_tokens: 0 } completion_tokens_details { reasoning_tokens: 0 } }"
    ],
    "several answers": [
        "model: 'tiny' choices { index: 1 delta { refusal: 'No.' } finish_reason: 'stop' }"
        " choices { delta { reasoning: 'Hm.' } finish_reason: 'length' }"
    ],
    "tools": [
        "choices { delta { tool_calls { function { name: 'f' arguments: '{}' } }"
        " tool_calls { custom { name: 'g' input: 'abc' } } tool_calls { other_json: '{}' } } }"
    ],
    "several events": [
        "id: 'c1' model: 'tiny' choices { delta { content: 'Hel' } }",
        "id: 'c2' model: 'other' choices { delta { content: 'lo' } finish_reason: 'stop' } usage { prompt_tokens: 3 }",
        "usage { prompt_tokens: 4 completion_tokens: 2 }",
    ],
}


def events(case: str) -> list[ChatCompletionChunk]:
    return [text_format.Parse(text, ChatCompletionChunk()) for text in ANSWERS[case]]


@pytest.mark.parametrize("case", ANSWERS)
def test_the_meter_measures_a_whole_answer_as_its_events(case: str) -> None:
    one, other = Measure(), Measure()
    for event in events(case):
        one.note(event)
    other.note_whole(said_of(events(case)))
    assert (one.characters, one.finish_reason, one.response_model) == (
        other.characters,
        other.finish_reason,
        other.response_model,
    )
    assert one.told == other.told
    assert one.told_so_far() == other.told_so_far()


@pytest.mark.parametrize("case", [case for case in ANSWERS if case != "several events"])
def test_the_telemetry_notes_a_whole_answer_as_its_events(case: str) -> None:
    one, other = (CallRecord(new_call(stream=False), NO_SPAN) for _ in range(2))
    for event in events(case):
        one.note(event)
    other.note_whole(said_of(events(case)))
    assert (one.response_id, one.response_model, one.finish_reasons) == (
        other.response_id,
        other.response_model,
        other.finish_reasons,
    )
    assert one.usage == other.usage == one.call.usage == other.call.usage


async def test_an_event_is_made_once_and_only_where_somebody_asks_for_it() -> None:
    made: list[ChatCompletionChunk] = []

    def event() -> ChatCompletionChunk:
        made.append(ChatCompletionChunk(id="c1"))
        return made[-1]

    said = Said("c1", "tiny", {0: "stop"}, 5, Tokens(9, completion=1))
    answer = Given.read(said, event, json=b"{}")
    assert answer.said is said
    assert answer.json == b"{}"
    assert not made
    assert answer.events[0] is answer.events[0]
    assert [each async for each in answer] == made
    assert len(made) == 1
    assert not answer.events
    assert answer.said is said


async def test_an_answer_that_is_closed_makes_no_event() -> None:
    answer = Given.read(said_of([]), ChatCompletionChunk)
    await answer.aclose()
    assert not [each async for each in answer]
