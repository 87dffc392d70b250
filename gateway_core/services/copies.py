"""Streams of other processes that callers continue here, from what those have copied."""

from collections.abc import AsyncGenerator

from headgate.v1.chat_completion_service_pb2 import ResumeChatCompletionRequest, ResumeChatCompletionResponse

from gateway_core.call import Caller
from gateway_core.errors import NotFound
from gateway_core.resume.copied import copied_stream
from gateway_core.resume.copies import Copies
from gateway_core.services.edge import Context


class CopiedStreams:
    """Continues them for callers of this process."""

    def __init__(self, copies: Copies) -> None:
        """Takes what is read of other processes."""
        self._copies = copies

    async def resume(
        self, request: ResumeChatCompletionRequest, seconds: float | None, caller: Caller, context: Context
    ) -> AsyncGenerator[ResumeChatCompletionResponse, None]:
        """Continues a stream of another process; raises NotFound where none has copied it."""
        copied = await copied_stream(self._copies, request.id, caller)
        if copied is None:
            raise NotFound("There is no copy of the stream.", resource="stream")
        with copied:
            await copied.open(request.after_sequence, seconds)
            await context.send_initial_metadata(copied.opening)
            yield ResumeChatCompletionResponse(sequence=request.after_sequence, resumed=copied.resumed)
            async for sequence, chunk in copied:
                yield ResumeChatCompletionResponse(chunk=chunk, sequence=sequence)
        context.set_trailing_metadata(copied.trailing)
