"""Who may call the services that do not go through the pipeline."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from google.protobuf.message import Message

from gateway_core.call import Caller
from gateway_core.errors import PermissionDenied
from gateway_core.identity.certificate_peer import CertificatePeers
from gateway_core.identity.keyring import Identities
from gateway_core.services.edge import Context, Rpc
from gateway_core.services.plain_text import check_texts

Response = TypeVar("Response")

CallerOf = Callable[[Context], Awaitable[Caller]]
"""Tells who calls a service; raises Unauthenticated, KeyExpired, PermissionDenied."""


class Access:
    """Tells a service who calls it."""

    def __init__(self, identities: Identities, certificates: CertificatePeers | None = None) -> None:
        """Takes who is known; and, where callers are known by certificates, what tells theirs."""
        self._identities = identities
        self.certificates = certificates

    async def any(self, context: Context) -> Caller:
        """The caller, whatever its key may do; raises Unauthenticated, KeyExpired."""
        authorization = None
        for key, value in context.invocation_metadata() or ():
            if key == "authorization" and isinstance(value, str):
                authorization = value
        certificate = self.certificate(context)
        remembered = None if certificate and not authorization else self._identities.remembered(authorization)
        return remembered or await self._identities.caller(authorization, certificate)

    def certificate(self, context: Context) -> str:
        """The name of the certificate that a call came by. Empty: there is none, or nobody is known by one."""
        return "" if self.certificates is None else self.certificates.name(context)

    async def private(self, context: Context) -> Caller:
        """The caller, who has a private key or needs none; raises as `any`, and PermissionDenied."""
        caller = await self.any(context)
        if caller.kind == "public":
            raise PermissionDenied("A public key may only call chat completions.")
        return caller

    async def root(self, context: Context) -> Caller:
        """The operator; raises as `private`, and PermissionDenied where somebody else calls."""
        caller = await self.private(context)
        if not caller.is_root:
            raise PermissionDenied("Only the operator's own account may do this.")
        return caller

    async def answered(
        self,
        context: Context,
        operation: str,
        work: Callable[[Caller], Awaitable[Response]],
        request: Message,
    ) -> Response:
        """What work gives for the caller, as `answered` says, whose key is private."""
        return await answered(self.private, context, operation, work, request)


async def answered(
    caller_of: CallerOf,
    context: Context,
    operation: str,
    work: Callable[[Caller], Awaitable[Response]],
    request: Message,
) -> Response:
    """What work gives for the caller; what fails ends the RPC. Takes the RPC in a word, and what it asks.

    Who may not call, and texts with a NUL character, do not come so far as to work.
    """
    rpc = Rpc(context, operation)
    try:
        caller = await caller_of(context)
        check_texts(request)
        response = await work(caller)
    except Exception as error:
        await rpc.failed(error)
    rpc.succeeded()
    return response
