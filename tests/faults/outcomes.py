"""What a call comes to in its caller's eyes, read from the very bytes of the answer."""

import json
from typing import Any, NamedTuple


class Outcome(NamedTuple):
    """What a caller got."""

    status: str
    """Of HTTP, "200", or of gRPC, "OK"."""
    code: str
    """The error's code, such as "provider_broken"; "error" in Ollama's JSON, which knows no codes; empty: no error."""
    is_success: bool
    """Whether the answer says that it is whole: [DONE], done: true, OK, or a document that is no error."""


class Answer(NamedTuple):
    """An HTTP answer."""

    status: str
    content_type: str
    body: bytes


def openai_outcome(raw: bytes) -> Outcome:
    """What an answer of OpenAI's dialect comes to."""
    answer = parsed(raw)
    if not answer.content_type.startswith("text/event-stream"):
        document = json.loads(answer.body)
        error = document.get("error")
        return Outcome(answer.status, error["code"] if error else "", error is None)
    *events, rest = answer.body.split(b"\n\n")
    assert rest == b""
    assert all(event.startswith(b"data: ") for event in events)
    is_done = events[-1] == b"data: [DONE]"
    documents: list[Any] = [json.loads(event[6:]) for event in (events[:-1] if is_done else events)]
    failed = [document["error"]["code"] for document in documents if "error" in document]
    assert len(failed) <= 1
    assert not failed or "error" in documents[-1]
    return Outcome(answer.status, failed[0] if failed else "", is_done)


def ollama_outcome(raw: bytes) -> Outcome:
    """What an answer of Ollama's dialect comes to."""
    answer = parsed(raw)
    documents = [json.loads(line) for line in answer.body.splitlines()]
    failed = ["error" for document in documents if "error" in document]
    is_done = any(document.get("done") for document in documents)
    assert not failed or "error" in documents[-1]
    return Outcome(answer.status, failed[0] if failed else "", is_done)


def parsed(raw: bytes) -> Answer:
    """An answer, whose framing must be whole: a caller is told of a failure in words, not by a broken connection."""
    top, end, rest = raw.partition(b"\r\n\r\n")
    assert end
    status_line, *lines = top.decode("latin-1").split("\r\n")
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = dechunked(rest) if fields.get("transfer-encoding") == "chunked" else rest
    assert "content-length" not in fields or len(body) == int(fields["content-length"])
    return Answer(status_line.split(" ")[1], fields["content-type"], body)


def dechunked(rest: bytes) -> bytes:
    """A body without its framing, which must be whole."""
    body = b""
    while True:
        size, end, rest = rest.partition(b"\r\n")
        assert end, "the answer breaks off"
        if int(size, 16) == 0:
            assert rest == b"\r\n"
            return body
        body += rest[: int(size, 16)]
        assert rest[int(size, 16) :].startswith(b"\r\n")
        rest = rest[int(size, 16) + 2 :]


def reason_code(reason: str) -> str:
    """The contract's name of a reason, in OpenAI's form."""
    return reason.removeprefix("ERROR_REASON_").lower()
