"""The messages of an answer's chunks, folded: texts are joined, calls and reasoning put together piece by piece."""

from collections.abc import Iterable
from typing import Any

from headgate.v1.chat_completion_pb2 import AnswerAudio, AnswerMessage, Logprobs
from headgate.v1.message_pb2 import ROLE_ASSISTANT, CustomToolCall, FunctionCall, ReasoningDetail, ToolCall

from gateway_core.completion.extra import folded_extra


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
