"""The chunks of an answer, folded, are the whole answer."""

from collections.abc import Iterable
from typing import Any

import orjson
from headgate.v1.chat_completion_pb2 import (
    AnswerAudio,
    AnswerMessage,
    ChatCompletion,
    ChatCompletionChunk,
    Choice,
    ChunkChoice,
    Logprobs,
)
from headgate.v1.message_pb2 import ROLE_ASSISTANT, CustomToolCall, FunctionCall, ReasoningDetail, ToolCall
from headgate.v1.token_usage_pb2 import TokenUsage

# Fields of chunks that no whole answer has: padding against side channels.
OF_CHUNKS_ONLY = frozenset({"obfuscation"})


def fold(chunks: Iterable[ChatCompletionChunk]) -> ChatCompletion:
    """The whole answer whose chunks these are."""
    pieces = list(chunks)
    if len(pieces) == 1 and (len(pieces[0].choices) == 1 or are_in_order(pieces[0].choices)):
        return whole(pieces[0])
    folded = Fold()
    for piece in pieces:
        folded.add(piece)
    return folded.completion()


def are_in_order(choices: Iterable[ChunkChoice]) -> bool:
    """Whether choices are as whole answers have them: each once, by index."""
    last = -1
    for choice in choices:
        if choice.index <= last:
            return False
        last = choice.index
    return True


def whole(chunk: ChatCompletionChunk) -> ChatCompletion:
    """The answer that came in one chunk, its choices in order: what folding makes of it, in a tenth of the time."""
    # The two messages have fields of the same numbers and types: one is read as the other.
    completion = ChatCompletion.FromString(chunk.SerializeToString())
    for choice in completion.choices:
        mend(choice.message)
        if not choice.finish_reason:
            choice.ClearField("finish_reason")
    if completion.extra_json:
        completion.extra_json = extra_json(of_answers(orjson.loads(completion.extra_json)))
    return completion


class Fold:
    """Puts an answer together, chunk by chunk.

    Texts are joined; tool calls are put together by their index, reasoning details by theirs (or, without one, where
    neighbours are of one type); lists are joined; of id, model and creation time the first counts, of the rest the
    last. Unknown fields: objects are merged, strings beside a text are joined, and otherwise the last value that is
    not null counts. The role is the assistant's where none is told. An empty text is as none beside anything else
    that is said: whole answers have none there, their streams begin with one.
    """

    def __init__(self) -> None:
        """Starts with nothing."""
        self._id = ""
        self._created = 0
        self._model = ""
        self._service_tier: str | None = None
        self._system_fingerprint: str | None = None
        self._usage: TokenUsage | None = None
        self._choices: dict[int, _Choice] = {}
        self._extra: dict[str, Any] = {}

    def add(self, chunk: ChatCompletionChunk) -> None:
        """Takes the next chunk."""
        self._id = self._id or chunk.id
        self._created = self._created or chunk.created
        self._model = self._model or chunk.model
        for added in chunk.choices:
            choice = self._choices.get(added.index)
            if choice is None:
                choice = self._choices[added.index] = _Choice()
            choice.add(added)
        if chunk.HasField("usage"):
            self._usage = chunk.usage
        if chunk.HasField("service_tier"):
            self._service_tier = chunk.service_tier
        if chunk.HasField("system_fingerprint"):
            self._system_fingerprint = chunk.system_fingerprint
        if chunk.extra_json:
            merge(self._extra, orjson.loads(chunk.extra_json))

    def completion(self) -> ChatCompletion:
        """The answer so far."""
        return ChatCompletion(
            id=self._id,
            created=self._created,
            model=self._model,
            choices=[self._choices[index].choice(index) for index in sorted(self._choices)],
            usage=self._usage,
            service_tier=self._service_tier,
            system_fingerprint=self._system_fingerprint,
            extra_json=extra_json(of_answers(self._extra)),
        )


class _Choice:
    """One answer of several."""

    def __init__(self) -> None:
        self._first: ChunkChoice | None = None
        self._rest: list[ChunkChoice] = []

    def add(self, added: ChunkChoice) -> None:
        if self._first is None:
            self._first = added
        else:
            self._rest.append(added)

    def choice(self, index: int) -> Choice:
        assert self._first is not None
        pieces = [self._first, *self._rest]
        reasons = [piece.finish_reason for piece in pieces if piece.finish_reason]
        choice = Choice(
            index=index,
            message=folded_message([piece.delta for piece in pieces]),
            finish_reason=reasons[-1] if reasons else None,
            extra_json=folded_extra(piece.extra_json for piece in pieces),
        )
        found = [piece.logprobs for piece in pieces if piece.HasField("logprobs")]
        if found:
            choice.logprobs.CopyFrom(folded_logprobs(found))
        return choice


def folded_message(pieces: list[AnswerMessage]) -> AnswerMessage:
    """One message from the pieces of it."""
    if len(pieces) == 1:
        message = AnswerMessage()
        message.CopyFrom(pieces[0])
    else:
        message = joined_message(pieces)
    mend(message)
    return message


def mend(message: AnswerMessage) -> None:
    """Makes a whole message of what chunks said: somebody speaks, and an empty text beside anything else is none."""
    if not message.role:
        message.role = ROLE_ASSISTANT
    if not message.content and message.HasField("content") and says_otherwise(message):
        message.ClearField("content")


def says_otherwise(message: AnswerMessage) -> bool:
    """Whether a message says anything that is not its text."""
    return bool(message.tool_calls or message.refusal) or message.HasField("audio") or message.HasField("function_call")


def joined_message(pieces: list[AnswerMessage]) -> AnswerMessage:
    """One message from several pieces."""
    message = AnswerMessage(
        role=next((piece.role for piece in pieces if piece.role), ROLE_ASSISTANT),
        content=joined(pieces, "content"),
        reasoning=joined(pieces, "reasoning"),
        refusal=joined(pieces, "refusal"),
        tool_calls=folded_tool_calls([call for piece in pieces for call in piece.tool_calls]),
        reasoning_details=folded_details([detail for piece in pieces for detail in piece.reasoning_details]),
        annotations=[annotation for piece in pieces for annotation in piece.annotations],
        extra_json=folded_extra((piece.extra_json for piece in pieces), join_strings=True),
    )
    if any(piece.HasField("audio") for piece in pieces):
        message.audio.CopyFrom(folded_audio([piece.audio for piece in pieces if piece.HasField("audio")]))
    if any(piece.HasField("function_call") for piece in pieces):
        calls = [piece.function_call for piece in pieces if piece.HasField("function_call")]
        message.function_call.CopyFrom(folded_function_call(calls))
    return message


def folded_tool_calls(pieces: list[ToolCall]) -> list[ToolCall]:
    """Whole calls from the pieces of them, by index."""
    by_index: dict[int, list[ToolCall]] = {}
    for piece in pieces:
        by_index.setdefault(piece.index, []).append(piece)
    return [folded_tool_call(by_index[index]) for index in sorted(by_index)]


def folded_tool_call(pieces: list[ToolCall]) -> ToolCall:
    """One call from the pieces of it."""
    call = ToolCall(
        index=pieces[0].index, id=first(pieces, "id"), extra_json=folded_extra(p.extra_json for p in pieces)
    )
    functions = [piece.function for piece in pieces if piece.HasField("function")]
    customs = [piece.custom for piece in pieces if piece.HasField("custom")]
    if functions:
        call.function.CopyFrom(folded_function_call(functions))
    elif customs:
        call.custom.CopyFrom(folded_custom_call(customs))
    elif any(piece.HasField("other_json") for piece in pieces):
        call.other_json = folded_extra(piece.other_json for piece in pieces)
    return call


def folded_function_call(pieces: list[FunctionCall]) -> FunctionCall:
    """One call of a function from the pieces of it."""
    return FunctionCall(
        name=first(pieces, "name"),
        arguments=joined(pieces, "arguments"),
        extra_json=folded_extra(piece.extra_json for piece in pieces),
    )


def folded_custom_call(pieces: list[CustomToolCall]) -> CustomToolCall:
    """One call of a custom tool from the pieces of it."""
    return CustomToolCall(
        name=first(pieces, "name"),
        input=joined(pieces, "input"),
        extra_json=folded_extra(piece.extra_json for piece in pieces),
    )


def folded_details(pieces: list[ReasoningDetail]) -> list[ReasoningDetail]:
    """Whole reasoning details from the pieces of them."""
    groups: list[list[ReasoningDetail]] = []
    ids: list[str] = []
    for piece in pieces:
        candidates = range(len(groups)) if piece.HasField("index") else range(len(groups))[-1:]
        place = next((at for at in candidates if is_one(groups[at][0], ids[at], piece)), None)
        if place is None:
            groups.append([piece])
            ids.append(piece.id)
        else:
            groups[place].append(piece)
            ids[place] = ids[place] or piece.id
    return [folded_detail(group) for group in groups]


def is_one(known: ReasoningDetail, known_id: str, piece: ReasoningDetail) -> bool:
    """Whether a piece of reasoning adds to another."""
    if known.type != piece.type or known.HasField("index") != piece.HasField("index") or known.index != piece.index:
        return False
    return not (known_id and piece.id and known_id != piece.id)


def folded_detail(pieces: list[ReasoningDetail]) -> ReasoningDetail:
    """One reasoning detail from the pieces of it."""
    return ReasoningDetail(
        type=pieces[0].type,
        id=first(pieces, "id"),
        format=first(pieces, "format"),
        index=pieces[0].index if pieces[0].HasField("index") else None,
        text=joined(pieces, "text"),
        summary=joined(pieces, "summary"),
        data=joined(pieces, "data"),
        signature=joined(pieces, "signature"),
        extra_json=folded_extra(piece.extra_json for piece in pieces),
    )


def folded_audio(pieces: list[AnswerAudio]) -> AnswerAudio:
    """One spoken answer from the pieces of it. Each piece of base64 is whole: its padding, if any, ends the sound."""
    expiries = [piece.expires_at for piece in pieces if piece.HasField("expires_at")]
    return AnswerAudio(
        id=first(pieces, "id"),
        data=joined(pieces, "data"),
        transcript=joined(pieces, "transcript"),
        expires_at=expiries[-1] if expiries else None,
        extra_json=folded_extra(piece.extra_json for piece in pieces),
    )


def folded_logprobs(pieces: list[Logprobs]) -> Logprobs:
    """The log probabilities of a whole answer."""
    folded = Logprobs(extra_json=folded_extra(piece.extra_json for piece in pieces))
    for piece in pieces:
        if piece.HasField("content"):
            folded.content.SetInParent()
            folded.content.tokens.extend(piece.content.tokens)
        if piece.HasField("refusal"):
            folded.refusal.SetInParent()
            folded.refusal.tokens.extend(piece.refusal.tokens)
    return folded


def joined(pieces: Iterable[Any], name: str) -> str | None:
    """The pieces of a text, joined; None where no piece has it."""
    texts = [getattr(piece, name) for piece in pieces if piece.HasField(name)]
    return "".join(texts) if texts else None


def first(pieces: Iterable[Any], name: str) -> str | None:
    """The first text that is not empty; None where there is none."""
    return next((text for piece in pieces if (text := getattr(piece, name))), None)


def folded_extra(texts: Iterable[str], *, join_strings: bool = False) -> str:
    """Unknown fields of several pieces, as JSON text."""
    given = [text for text in texts if text]
    if len(given) < 2:
        return "".join(given)
    extra: dict[str, Any] = {}
    for text in given:
        merge(extra, orjson.loads(text), join_strings=join_strings)
    return extra_json(extra)


def of_answers(extra: dict[str, Any]) -> dict[str, Any]:
    """The unknown fields of chunks that whole answers have too."""
    return {name: value for name, value in extra.items() if name not in OF_CHUNKS_ONLY}


def merge(into: dict[str, Any], added: dict[str, Any], *, join_strings: bool = False) -> None:
    """Adds the unknown fields of a later piece to those of earlier ones."""
    for name, value in added.items():
        known = into.get(name)
        if isinstance(known, dict) and isinstance(value, dict):
            merge(known, value, join_strings=join_strings)
        elif join_strings and isinstance(known, str) and isinstance(value, str):
            into[name] = known + value
        elif value is not None or name not in into:
            into[name] = value


def extra_json(extra: dict[str, Any]) -> str:
    """Unknown fields as JSON text; empty where there are none."""
    return orjson.dumps(extra).decode() if extra else ""
