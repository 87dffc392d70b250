"""Who calls."""

from collections.abc import Awaitable
from typing import Any

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk

from gateway_core.call import Call, Events, Given, Next, whole
from gateway_core.identity.keyring import Identities
from gateway_core.identity.public import PublicLimits, Use, check_public

STARTED = ChatCompletionChunk()


class Stage:
    """Sets the caller of a call."""

    def __init__(self, identities: Identities, public: PublicLimits) -> None:
        """Takes who is known, and how often public keys may be used."""
        self._identities = identities
        self._public = public

    def __call__(self, call: Call[Any], next: Next[Any]) -> Awaitable[Events]:
        """Raises Unauthenticated, PermissionDenied, ParameterNotAllowed, RateLimited."""
        authorization = call.metadata.get("authorization")
        caller = None if call.certificate and not authorization else self._identities.remembered(authorization)
        if caller is None:
            return self._asked(call, next)
        call.caller = caller
        return self._limited(call, next) if caller.kind == "public" else next(call)

    async def _asked(self, call: Call[Any], next: Next[Any]) -> Events:
        """What somebody asks of whom it has to be asked who that is."""
        call.caller = await self._identities.caller(call.metadata.get("authorization"), call.certificate)
        return await (self._limited(call, next) if call.caller.kind == "public" else next(call))

    async def _limited(self, call: Call[Any], next: Next[Any]) -> Events:
        """What a public key asks, within its windows."""
        check_public(call)
        public, key_id = self._public, call.caller.key_id
        tokens = call.operation.prompt_token_count(call) if public.counts_tokens else 0
        use = public.admit(key_id, call.address, tokens=tokens)
        if public.shares is not None:
            await public.share(use, public.shares)
        if not public.counts_tokens:
            return await next(call)
        events = await next(call)
        if call.stream:
            watched = self._watch(call, use, events)
            # As in the stage `trace`: closing a generator that has not run yet runs none of it.
            await anext(watched)
            return watched
        answer = events if isinstance(events, Given) else await whole(events)
        told = answer.said.usage
        if told is not None:
            public.correct(use, told.prompt or 0)
        return answer

    async def _watch(self, call: Call[Any], use: Use, events: Events) -> Events:
        try:
            yield STARTED
            async for event in events:
                told = call.operation.usage(event)
                if told is not None:
                    self._public.correct(use, max(0, told.prompt_tokens))
                yield event
        finally:
            await events.aclose()
