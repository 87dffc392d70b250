"""From a gateway's name to what it stands for: the request as the gateway completes it."""

from collections.abc import Awaitable, Sequence
from typing import Any

from gateway_core.call import Call, Events, Next, Rewrite
from gateway_core.catalog.catalog import Catalog
from gateway_core.catalog.gateway import Version
from gateway_core.catalog.gateway_cache import GatewayCache
from gateway_core.catalog.gateway_context import Estimate, fit
from gateway_core.catalog.gateway_echo import echoed
from gateway_core.catalog.gateway_endpoint import Endpoints
from gateway_core.catalog.gateway_merge import merged
from gateway_core.chat import chat_of, read
from gateway_core.errors import ModelNotAllowed
from gateway_core.metering.estimate import input_tokens, message_tokens

ESTIMATE = Estimate(lambda spec: input_tokens(read(spec)), message_tokens)


class Stage:
    """Completes calls that ask a gateway, and lets all others pass."""

    def __init__(self, cache: GatewayCache, catalog: Catalog, endpoints: Endpoints) -> None:
        """Takes the gateways, the models behind them, and their owners' endpoints."""
        self._cache = cache
        self._catalog = catalog
        self._endpoints = endpoints

    def __call__(self, call: Call[Any], next: Next[Any]) -> Awaitable[Events]:
        """Raises ModelNotAllowed, InvalidRequest, ContextTooLong."""
        version = self._cache.find(call.caller.account_id, call.model)
        allowed = call.caller.allowed_models
        if allowed is not None and allowed.isdisjoint(names(call.model, version)):
            model = call.model[:200]
            raise ModelNotAllowed(f"The key may not ask the model {model!r}.", param="model", model=model)
        if version is None:
            return next(call)
        return self._ask(version, call, next)

    def _ask(self, version: Version, call: Call[Any], next: Next[Any]) -> Awaitable[Events]:
        # What is wrong is told by the places of the caller's own messages.
        call.check()
        chat, rewrites, beginning = merged(chat_of(call), version, is_public=call.caller.kind == "public")
        if version.is_bounded:
            limit = version.most_tokens(None if version.is_own else self._catalog.context_length(version.model))
            left_out = [] if limit is None else fit(chat.spec, limit, ESTIMATE, truncates=version.truncates)
            if left_out:
                chat, rewrites = read(chat.spec), [*rewrites, *left_out]
        call.gateway = version.use
        call.ask(chat, version.model)
        if version.is_own:
            call.targets = (self._endpoints.target(version),)
        if beginning:
            call.json_format = ""  # the document is the provider's, which does not begin with the prefill
        if beginning or rewrites:
            return told(next(call), call, rewrites, beginning)
        return next(call)


async def told(opening: Awaitable[Events], call: Call[Any], rewrites: Sequence[Rewrite], beginning: str) -> Events:
    """The events, with what was made of the request told first, and with the beginning that the caller wants back."""
    events = await opening
    call.rewrites[:0] = rewrites
    return await echoed(events, beginning) if beginning else events


def names(asked: str, version: Version | None) -> tuple[str, ...]:
    """The names of which an allowed one allows a call: a gateway's own, and that of the hosted model behind it."""
    if version is None:
        return (asked,)
    gateway = version.use
    return (gateway.id, gateway.slug) if version.is_own else (gateway.id, gateway.slug, version.model)
