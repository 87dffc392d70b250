"""What of an answer the caller has: how another target may go on where one has failed in the midst of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from headgate.v1.chat_completion_pb2 import AnswerMessage, ChatCompletionChunk
from headgate.v1.message_pb2 import ROLE_UNSPECIFIED, ToolCall

CONTENT, REASONING, REFUSAL = "content", "reasoning", "refusal"


class Differs(Exception):
    """Another answer does not begin as the one that the caller has."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A text of one of the tool calls of an answer."""

    index: int
    """The place of the call, from 0."""
    field: Literal["name", "arguments"]


Part = str | Tool
"""What a text belongs to."""


class Sent:
    """One answer, event by event as the caller gets it."""

    def __init__(self) -> None:
        """Begins with nothing."""
        self._texts: dict[Part, list[str]] = {}
        self.calls: set[int] = set()
        """The places of the tool calls that have begun."""
        self._id = ""
        self._created = 0
        self._has_role = False
        self._is_bare = True
        """Whether there is nothing but text and reasoning that nobody has signed."""
        self._can_be_skipped = True
        """Whether another answer can be compared to it."""
        self.is_ended = False
        """Whether it has a finish reason: then it is whole."""

    def note(self, event: ChatCompletionChunk) -> None:
        """Takes note of an event that goes to the caller."""
        if not self._id:
            self._id, self._created = event.id, event.created
        for choice in event.choices:
            delta = choice.delta
            # Most events have text and nothing else.
            if delta.content:
                self._texts.setdefault(CONTENT, []).append(delta.content)
            if delta.role or delta.tool_calls or delta.refusal or delta.reasoning or delta.reasoning_details:
                self._note_more(delta)
            if choice.finish_reason:
                self.is_ended = True
            if choice.index or choice.HasField("logprobs") or is_odd(delta):
                self._is_bare = self._can_be_skipped = False

    def _note_more(self, delta: AnswerMessage) -> None:
        self._has_role = self._has_role or bool(delta.role)
        for part, text in further_texts(delta):
            self._texts.setdefault(part, []).append(text)
        if delta.tool_calls or delta.refusal:
            self._is_bare = False
            self.calls.update(call.index for call in delta.tool_calls)
        for detail in delta.reasoning_details:
            if detail.signature or detail.data:
                # What is signed must be sent back as it is: two models' reasoning cannot be one.
                self._is_bare = self._can_be_skipped = False

    def text(self, part: Part) -> str:
        """What the caller has of one text."""
        return "".join(self._texts.get(part, ()))

    @property
    def can_be_continued(self) -> bool:
        """Whether a model may go on that is given the text as the beginning of its answer."""
        return self._is_bare and bool(self.text(CONTENT).strip())

    @property
    def can_be_repeated(self) -> bool:
        """Whether another answer may take its place, of which the caller gets what it does not have."""
        return self._can_be_skipped

    @property
    def parts(self) -> dict[Part, str]:
        """All texts."""
        return {part: self.text(part) for part in self._texts}

    def adapt(self, event: ChatCompletionChunk) -> ChatCompletionChunk:
        """A copy of an event of another answer, as one of this; its model stays: it is the one that answers."""
        copy = ChatCompletionChunk()
        copy.CopyFrom(event)
        if self._id:
            copy.id, copy.created = self._id, self._created
        if self._has_role:
            for choice in copy.choices:
                choice.delta.role = ROLE_UNSPECIFIED
        return copy


class Continuation:
    """Joins what a model has said to go on with a text to that text."""

    def __init__(self, sent: Sent) -> None:
        """Takes what the caller has."""
        self._sent = sent
        text = sent.text(CONTENT)
        self.beginning = text.rstrip()
        """What the model is given: some vendors refuse one that ends with white space (Anthropic, "Prefill")."""
        self._held = text[len(self.beginning) :]
        """White space that the caller has, and the model will say again."""

    def event(self, event: ChatCompletionChunk) -> ChatCompletionChunk | None:
        """What the caller gets of an event. None: nothing."""
        copy = self._sent.adapt(event)
        for choice in copy.choices:
            delta = choice.delta
            # What it thinks before it goes on belongs to no answer that the caller has.
            delta.ClearField("reasoning")
            del delta.reasoning_details[:]
            if self._held and delta.content:
                delta.content = self._without_held(delta.content)
        return copy if is_of_use(copy) else None

    def _without_held(self, content: str) -> str:
        begins = content[: len(content) - len(content.lstrip())]
        if len(begins) < len(content):
            held, self._held = self._held, ""
            return content[len(held) :] if content.startswith(held) else content.lstrip()
        # White space only: some of it, or more than that, is there already.
        count = len(self._held)
        self._held = self._held[len(content) :]
        return content[count:]


class Repetition:
    """Gives of an answer that begins as another what that other lacks."""

    def __init__(self, sent: Sent) -> None:
        """Takes what the caller has."""
        self._sent = sent
        self._left = {part: text for part, text in sent.parts.items() if text}
        """What has still to be said again, by part."""
        self._has_thought = self._left.pop(REASONING, None) is not None
        self._calls = frozenset(sent.calls)

    @property
    def is_level(self) -> bool:
        """Whether all has been said again."""
        return not self._left

    def event(self, event: ChatCompletionChunk) -> ChatCompletionChunk | None:
        """What the caller gets of an event. None: nothing. Raises Differs."""
        if self.is_level and not self._has_thought and not self._calls:
            return self._sent.adapt(event)
        copy = self._sent.adapt(event)
        for choice in copy.choices:
            self._rest(choice.delta)
            if (choice.finish_reason and not self.is_level) or choice.index:
                raise Differs
        return copy if is_of_use(copy) else None

    def _rest(self, delta: AnswerMessage) -> None:
        """Leaves of a delta what the caller does not have."""
        if self._has_thought:
            # One thinks in other words each time; what was thought is part of the answer that the caller has.
            delta.ClearField("reasoning")
            del delta.reasoning_details[:]
        elif delta.reasoning and not self.is_level:
            raise Differs
        if delta.content:
            delta.content = self._new(CONTENT, delta.content)
        if delta.refusal:
            delta.refusal = self._new(REFUSAL, delta.refusal)
        calls = [call for call in delta.tool_calls if self._rest_of_call(call)]
        del delta.tool_calls[:]
        delta.tool_calls.extend(calls)

    def _rest_of_call(self, call: ToolCall) -> bool:
        name, arguments = Tool(call.index, "name"), Tool(call.index, "arguments")
        is_known = call.index in self._calls
        if call.function.name:
            call.function.name = self._new(name, call.function.name)
        if call.function.arguments:
            call.function.arguments = self._new(arguments, call.function.arguments)
        if is_known:
            call.ClearField("id")
        return not is_known or bool(call.function.name or call.function.arguments)

    def _new(self, part: Part, text: str) -> str:
        """What the caller does not have of a text."""
        left = self._left.get(part, "")
        if text.startswith(left):
            self._left.pop(part, None)
            if len(text) > len(left) and not self.is_level:
                raise Differs  # more is said here, while something else is not yet said again
            return text[len(left) :]
        if not left.startswith(text):
            raise Differs
        self._left[part] = left[len(text) :]
        return ""


def further_texts(delta: AnswerMessage) -> Iterator[tuple[Part, str]]:
    """The texts of a delta beside its content."""
    if delta.reasoning:
        yield REASONING, delta.reasoning
    if delta.refusal:
        yield REFUSAL, delta.refusal
    for call in delta.tool_calls:
        if call.function.name:
            yield Tool(call.index, "name"), call.function.name
        if call.function.arguments:
            yield Tool(call.index, "arguments"), call.function.arguments


def is_odd(delta: AnswerMessage) -> bool:
    """Whether a delta has what is no text."""
    return bool(
        delta.HasField("audio")
        or delta.annotations
        or delta.HasField("function_call")
        or delta.extra_json
        or any(call.HasField("custom") or call.other_json for call in delta.tool_calls)
    )


def is_of_use(event: ChatCompletionChunk) -> bool:
    """Whether an event tells the caller anything."""
    if event.HasField("usage") or event.extra_json:
        return True
    for choice in event.choices:
        delta = choice.delta
        if choice.finish_reason or delta.content or delta.reasoning or delta.refusal or delta.tool_calls:
            return True
        if delta.reasoning_details or is_odd(delta):
            return True
    return False
