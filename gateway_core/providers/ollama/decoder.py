"""What an answer of Ollama's says, line by line, and whether it has ended."""

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk

from gateway_core.providers.ollama.answer import Answer
from gateway_core.upstream.document import document_of
from gateway_core.upstream.refusal import Refusals
from gateway_core.upstream.stream import OneByOne

END_SECONDS = 0.1
"""How long to wait for the end of the body once the answer has ended: its connection can then be used again."""


class Decoder(OneByOne[bytes]):
    """Decodes one answer, whole or streamed."""

    def __init__(self, refusals: Refusals, request_id: str) -> None:
        """Takes what makes the errors, and what the answer is named after."""
        self._refusals = refusals
        self._answer = Answer(request_id)

    @property
    def is_done(self) -> bool:
        """Whether Ollama said that the answer has ended."""
        return self._answer.is_done

    @property
    def is_whole(self) -> bool:
        """Whether all of it is there: the line that ends it has the usage too."""
        return self._answer.is_done

    @property
    def is_empty(self) -> bool:
        """Whether no answer has begun."""
        return not self._answer.is_begun

    @property
    def patience_seconds(self) -> float | None:
        """For how long, from now, something more is worth waiting for; None: for as long as the answer takes."""
        return END_SECONDS if self.is_done else None

    def event(self, line: bytes) -> ChatCompletionChunk:
        """What a line of the stream says. Raises ProviderError."""
        document = document_of(line, self._refusals)
        try:
            return self._answer.chunk(document)
        except (ValueError, TypeError) as error:
            raise self._refusals.broken(f"sent an answer that makes no sense: {error}") from None

    def whole(self, data: bytes) -> ChatCompletionChunk:
        """What a whole answer says. Raises ProviderError."""
        event = self.event(data)
        if not self.is_done:
            raise self._refusals.broken("broke its answer off before its end")
        return event
