"""Who calls."""

from typing import Any

from headgate.v1.chat_completion_pb2 import ChatCompletionChunk

from gateway_core.call import Call, Events, Next, whole
from gateway_core.identity.keyring import Identities
from gateway_core.identity.public import PublicLimits, Use, check_public

STARTED = ChatCompletionChunk()


class Stage:
    """Sets the caller of a call."""

    def __init__(self, identities: Identities, public: PublicLimits) -> None:
        """Takes who is known, and how often public keys may be used."""
        self._identities = identities
        self._public = public

    async def __call__(self, call: Call[Any], next: Next[Any]) -> Events:
        """Raises Unauthenticated, PermissionDenied, ParameterNotAllowed, RateLimited."""
        authorization = call.metadata.get("authorization")
        caller = None if call.certificate and not authorization else self._identities.remembered(authorization)
        if caller is None:
            caller = await self._identities.caller(authorization, call.certificate)
        call.caller = caller
        if caller.kind == "public":
            return await self._limited(call, next)
        return await next(call)

    async def _limited(self, call: Call[Any], next: Next[Any]) -> Events:
        """What a public key asks, within its windows."""
        check_public(call)
        public, key_id = self._public, call.caller.key_id
        tokens = call.operation.prompt_token_count(call.request) if public.counts_tokens else 0
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
        answer = await whole(events)
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
