"""Tests of metadata both ways, over a socket and in one process."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.inprocess.metadata import ReceivedMetadata, Texts, is_printable, received
from tests.gateway_core.inprocess.conftest import CREATE, STREAM, Connect, answer, event, eventually, texts

BOTH_KINDS = (("x-request-id", "abc"), ("trace-bin", b"\x00\xff"), ("x-tag", "1"), ("x-tag", "2"), ("x-empty", ""))


async def test_a_servicer_sees_the_callers_metadata(connect: Connect) -> None:
    seen: list[Any] = []

    async def create(request: Any, context: Any) -> Any:
        seen.extend(context.invocation_metadata())
        return answer()

    _, stub = await connect(create=create)
    for sent in (BOTH_KINDS, list(BOTH_KINDS), grpc.aio.Metadata(*BOTH_KINDS)):
        seen.clear()
        await stub.CreateChatCompletion(CREATE, metadata=sent)
        got = [item for item in seen if item[0] != "user-agent"]
        assert got == list(BOTH_KINDS)


async def test_a_text_value_may_be_sent_as_bytes_and_arrives_as_text(connect: Connect) -> None:
    seen: dict[str, Any] = {}

    async def create(request: Any, context: Any) -> Any:
        seen.update(context.invocation_metadata())
        return answer()

    _, stub = await connect(create=create)
    await stub.CreateChatCompletion(CREATE, metadata=(("k", b"text"), ("user-agent", "mine"), ("te", "mine")))
    assert seen["k"] == "text"
    assert "te" not in seen
    assert seen.get("user-agent") != "mine"


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        (("Upper", "v"), grpc.aio.InternalError),
        (("with space", "v"), grpc.aio.InternalError),
        (("", "v"), grpc.aio.InternalError),
        (("k", "line\nbreak"), grpc.aio.InternalError),
        (("k", "é"), grpc.aio.InternalError),
        (("k", b"\xff"), grpc.aio.InternalError),
        (("k-bin", "text"), TypeError),
        (("k", 1), TypeError),
        ((1, "v"), TypeError),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # grpc's own, over a socket
async def test_illegal_metadata_of_a_caller_is_refused(connect: Connect, sent: Any, error: type[Exception]) -> None:
    async def create(request: Any, context: Any) -> Any:
        return answer()

    _, stub = await connect(create=create)
    call = stub.CreateChatCompletion(CREATE, metadata=(sent,))
    with pytest.raises(error):
        await call
    call.cancel()


async def test_a_caller_sees_the_servicers_metadata(connect: Connect) -> None:
    async def create(request: Any, context: Any) -> Any:
        await context.send_initial_metadata((("i", "1"), ("i-bin", b"\x01")))
        context.set_trailing_metadata([("t", "0")])
        context.set_trailing_metadata([("t", "1"), ("t", "2"), ("t-bin", b"\x02")])
        assert tuple(context.trailing_metadata()) == (("t", "1"), ("t", "2"), ("t-bin", b"\x02"))
        return answer()

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        await create(request, context)
        yield event()

    _, stub = await connect(create, stream)
    unary, streamed = stub.CreateChatCompletion(CREATE), stub.StreamChatCompletion(STREAM)
    await unary
    await texts(streamed)
    for call in (unary, streamed):
        assert tuple(await call.initial_metadata()) == (("i", "1"), ("i-bin", b"\x01"))
        trailing = await call.trailing_metadata()
        assert isinstance(trailing, grpc.aio.Metadata)
        assert tuple(trailing) == (("t", "1"), ("t", "2"), ("t-bin", b"\x02"))


async def test_metadata_that_nobody_sent_are_empty(connect: Connect) -> None:
    async def create(request: Any, context: Any) -> Any:
        return answer()

    _, stub = await connect(create=create)
    call = stub.CreateChatCompletion(CREATE)
    assert tuple(await call.initial_metadata()) == ()
    assert tuple(await call.trailing_metadata()) == ()


async def test_initial_metadata_arrive_before_the_first_event(connect: Connect) -> None:
    go = asyncio.Event()

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        await context.send_initial_metadata((("i", "1"),))
        await go.wait()
        yield event("after")

    _, stub = await connect(stream=stream)
    call = stub.StreamChatCompletion(STREAM)
    assert tuple(await asyncio.wait_for(call.initial_metadata(), 5)) == (("i", "1"),)
    await call.wait_for_connection()
    go.set()
    assert await texts(call) == ["after"]


async def test_initial_metadata_arrive_while_another_task_waits_for_the_first_event(connect: Connect) -> None:
    go, send = asyncio.Event(), asyncio.Event()

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        await send.wait()
        await context.send_initial_metadata((("i", "1"),))
        await go.wait()
        yield event("after")

    _, stub = await connect(stream=stream)
    call = stub.StreamChatCompletion(STREAM)
    read = asyncio.create_task(texts(call))
    metadata = asyncio.create_task(call.initial_metadata())
    await asyncio.sleep(0)
    send.set()
    assert tuple(await asyncio.wait_for(metadata, 5)) == (("i", "1"),)
    go.set()
    assert await read == ["after"]


async def test_waiting_for_initial_metadata_costs_no_event(connect: Connect) -> None:
    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        yield event("1")
        yield event("2")

    _, stub = await connect(stream=stream)
    call = stub.StreamChatCompletion(STREAM)
    assert tuple(await call.initial_metadata()) == ()
    assert tuple(await call.initial_metadata()) == ()
    assert await texts(call) == ["1", "2"]


async def test_a_stream_can_be_cancelled_after_its_initial_metadata(connect: Connect) -> None:
    ended: list[str] = []

    async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
        await context.send_initial_metadata((("i", "1"),))
        try:
            await asyncio.Event().wait()
            yield event()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0)
            ended.append("finally")

    _, stub = await connect(stream=stream)
    call = stub.StreamChatCompletion(STREAM)
    await call.initial_metadata()
    assert call.cancel()
    await eventually(lambda: ended == ["cancelled", "finally"])
    bounded = stub.StreamChatCompletion(STREAM, timeout=0.1)
    await bounded.initial_metadata()
    await eventually(lambda: ended == ["cancelled", "finally"] * 2)
    assert await bounded.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_initial_metadata_are_sent_once(connect: Connect) -> None:
    async def create(request: Any, context: Any) -> Any:
        await context.send_initial_metadata((("i", "1"),))
        with pytest.raises(grpc.aio.UsageError):
            await context.send_initial_metadata((("i", "2"),))
        return answer()

    _, stub = await connect(create=create)
    call = stub.CreateChatCompletion(CREATE)
    await call
    assert tuple(await call.initial_metadata()) == (("i", "1"),)


async def test_illegal_metadata_of_a_servicer_fail_the_call(connect: Connect) -> None:
    async def create(request: Any, context: Any) -> Any:
        for wrong in ({"a": "b"}, [["a", "b"]], (("a", 1),), (("a",),)):
            with pytest.raises(TypeError):
                context.set_trailing_metadata(wrong)
        context.set_trailing_metadata((("Upper", "v"),))
        return answer()

    _, stub = await connect(create=create)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.CreateChatCompletion(CREATE)
    assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.INTERNAL, "Invalid metadata")


async def test_aborting_takes_trailing_metadata_as_a_tuple_only(connect: Connect) -> None:
    async def create(request: Any, context: Any) -> Any:
        with pytest.raises(TypeError):
            await context.abort(grpc.StatusCode.NOT_FOUND, "", [("a", "b")])
        return answer()

    _, stub = await connect(create=create)
    await stub.CreateChatCompletion(CREATE)


def looked_at_one_by_one(sent: Any) -> Any:
    """What becomes of pairs of which none has keys that were looked at before."""
    try:
        return [pair for each in sent for pair in received([each])]
    except (TypeError, ValueError, grpc.aio.InternalError) as error:
        return type(error)


KEYS = st.sampled_from(["a", "b", "x-c", "d-bin", "Upper", "te", 1])
VALUES = st.text('aB "\\\n\x7fé', max_size=3) | st.binary(max_size=2) | st.just(1)


@given(st.lists(st.tuples(KEYS, VALUES), max_size=4).map(tuple))
def test_metadata_are_seen_as_they_would_be_one_by_one(sent: Any) -> None:
    expected = looked_at_one_by_one(sent)
    assert seen_of(sent) == expected
    if isinstance(expected, list):
        told = received(sent)
        assert list(ReceivedMetadata(told)) == list(grpc.aio.Metadata(*told))


@given(st.lists(st.tuples(KEYS, VALUES), max_size=4).map(tuple))
def test_metadata_in_columns_are_seen_as_pairs_are(sent: Any) -> None:
    in_columns = columns_of(sent)
    assert (list(in_columns), len(in_columns)) == (list(sent), len(sent))
    for _ in range(2):  # the first time the keys are new
        assert seen_of(in_columns) == seen_of(sent)
    if isinstance(seen_of(sent), list):
        of_columns, of_pairs = ReceivedMetadata(received(in_columns)), ReceivedMetadata(received(sent))
        assert list(of_columns) == list(of_pairs)
        assert of_columns == of_pairs


def seen_of(sent: Any) -> Any:
    """What becomes of metadata."""
    try:
        return list(received(sent))
    except (TypeError, grpc.aio.InternalError) as error:
        return type(error)


def columns_of(pairs: Any) -> Texts:
    """Pairs in columns."""
    return Texts(tuple(key for key, _ in pairs), [value for _, value in pairs])


@pytest.mark.parametrize("odd", ["line\nbreak", "\x7f", "é", b"text", 1, None])
def test_what_is_no_text_is_never_taken_for_it_under_keys_that_are_known(odd: Any) -> None:
    known = columns_of((("k", "v"), ("l", "v")))
    received(known)
    assert received(known) is known
    assert seen_of(columns_of((("k", "v"), ("l", odd)))) == seen_of((("k", "v"), ("l", odd)))


def test_columns_of_two_lengths_are_refused() -> None:
    received(Texts(("k", "l"), ["v", "v"]))
    for values in ([], ["v"], ["v"] * 3):
        with pytest.raises(ValueError, match="argument"):
            received(Texts(("k", "l"), values))


async def test_a_servicer_sends_columns_and_sees_those_of_its_caller(connect: Connect) -> None:
    seen: list[Any] = []

    async def create(request: Any, context: Any) -> Any:
        seen.append([pair for pair in context.invocation_metadata() if pair[0] != "user-agent"])
        await context.send_initial_metadata(Texts(("i",), ["1"]))
        context.set_trailing_metadata(Texts(("t", "u", "u"), ["1", "2", "3"]))
        return answer()

    _, stub = await connect(create=create)
    for _ in range(2):
        call = stub.CreateChatCompletion(CREATE, metadata=Texts(("a", "b"), ["1", "2"]))
        await call
        assert seen.pop() == [("a", "1"), ("b", "2")]
        assert tuple(await call.initial_metadata()) == (("i", "1"),)
        trailing = await call.trailing_metadata()
        assert tuple(trailing) == (("t", "1"), ("u", "2"), ("u", "3"))
        trailing["t"] = "changed"
        assert (trailing["t"], trailing.get_all("u")) == ("changed", ["2", "3"])
        assert tuple(await call.trailing_metadata()) == (("t", "1"), ("u", "2"), ("u", "3"))


def test_every_ascii_character_is_known_to_be_printable_or_not() -> None:
    assert [is_printable(chr(code)) for code in range(128)] == [chr(code).isprintable() for code in range(128)]
    assert is_printable("")
    assert not is_printable("é")


@given(st.text(st.characters(max_codepoint=0x100), max_size=8))
def test_a_text_is_printable_where_python_says_so(text: str) -> None:
    assert is_printable(text) is (text.isascii() and text.isprintable())
