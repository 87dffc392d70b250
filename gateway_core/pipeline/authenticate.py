"""Who calls."""

from typing import Any

from gateway_core.call import Call, Events, Next
from gateway_core.identity.keyring import Identities
from gateway_core.identity.public import PublicLimits, check_public


class Stage:
    """Sets the caller of a call."""

    def __init__(self, identities: Identities, public: PublicLimits) -> None:
        """Takes who is known, and how often public keys may be used."""
        self._identities = identities
        self._public = public

    async def __call__(self, call: Call[Any], next: Next[Any]) -> Events:
        """Raises Unauthenticated, PermissionDenied, ParameterNotAllowed, RateLimited."""
        authorization = call.metadata.get("authorization")
        caller = self._identities.remembered(authorization)
        if caller is None:
            caller = await self._identities.caller(authorization)
        call.caller = caller
        if caller.kind == "public":
            check_public(call)
            self._public.admit(caller.key_id, call.address)
        return await next(call)
