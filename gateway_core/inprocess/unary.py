"""A call with one answer."""

from collections.abc import Generator
from contextlib import suppress
from types import CoroutineType
from typing import Any, TypeVar

import grpc.aio

from gateway_core.inprocess.call import OK, Call
from gateway_core.inprocess.driving import ENDED, NEW, Driving

Request = TypeVar("Request")
Response = TypeVar("Response")


class UnaryUnaryCall(Call, grpc.aio.UnaryUnaryCall[Request, Response]):
    """A call whose servicer runs in the first task that awaits it."""

    _response: Response

    def __await__(self) -> Generator[Any, None, Response]:
        """Runs the servicer; raises the call's failure. Awaiting it again gives the same again."""
        if self._state == NEW:
            context = self._admit()
            assert self._handler is not None
            try:
                answer: Any = self._handler(self._request, context)
                if type(answer) is CoroutineType:
                    answer = yield from self._drive(answer)
                elif hasattr(answer, "__await__"):  # a servicer that implements nothing inherits plain functions
                    answer = yield from self._drive(answer.__await__())
            except BaseException as error:
                self._settle(error)
            else:
                self._response = answer
                self._settle(None)
        elif self._state != ENDED:
            yield from self._wait_for_turn()
        if self._code is not OK:
            raise self._failure()
        return self._response

    def _peek(self, parks: bool) -> Driving:
        with suppress(grpc.aio.AioRpcError):
            yield from self.__await__()

    async def _close_source(self) -> None:
        """Nothing to do: the coroutine is all there is."""
