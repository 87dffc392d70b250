"""envoy.service.ratelimit.v3.RateLimitService: an Envoy in front asks whether a caller's limits are reached."""

from collections.abc import Mapping
from math import ceil
from typing import Any

import grpc
from headgate.envoy.v1.header_pb2 import HeaderValue
from headgate.envoy.v1.rate_limit_pb2 import RateLimitRequest, RateLimitResponse

from gateway_core.errors import RateLimited
from gateway_core.identity.credential import carried
from gateway_core.identity.keyring import Identities
from gateway_core.services.early import Asked, Look, Peers, Refusals
from gateway_core.services.edge import Context
from gateway_core.services.envoy_request import CERTIFICATE, authorization_of, bearer, is_model_call

SERVICE = "envoy.service.ratelimit.v3.RateLimitService"


class RateLimitService:
    """Says whose limits are reached. It counts nothing, whatever `hits_addend` says: the pipeline does.

    A descriptor may have "authorization" (also no more than a key), "x-api-key", "api-key", "x-forwarded-client-cert",
    "remote_address", "path" (where a key may be in the query) and "origin"; with a path only calls of models are
    refused, in the words of the dialect. Keys that are not in memory are not looked up, and who shows a certificate and
    no key is left to the core.
    """

    def __init__(self, identities: Identities, look: Look | None, peers: Peers, refusals: Refusals) -> None:
        """Takes who is known; what tells of limits, None: nothing; who may ask; and what refused callers get."""
        self._identities = identities
        self._look = look
        self._peers = peers
        self._refusals = refusals

    def register(self, server: Any) -> None:
        """Begins to answer at a server. What is answered is bytes already."""
        handler: Any = grpc.unary_unary_rpc_method_handler(self.should_rate_limit, RateLimitRequest.FromString)
        server.add_registered_method_handlers(SERVICE, {"ShouldRateLimit": handler})

    async def should_rate_limit(self, request: RateLimitRequest, context: Context) -> bytes:
        """Whether a request is refused for what one of its descriptors says; all of them are told of."""
        await self._peers.check(context)
        response = RateLimitResponse(overall_code=RateLimitResponse.CODE_OK)
        for descriptor in request.descriptors:
            entries = {entry.key: entry.value for entry in descriptor.entries}
            refusal = self._refusal(entries)
            told = response.statuses.add(code=RateLimitResponse.CODE_OK)
            if refusal is None:
                continue
            told.code = RateLimitResponse.CODE_OVER_LIMIT
            told.duration_until_reset.FromNanoseconds(round((refusal.retry_after_seconds or 0) * 1e9))
            if response.overall_code != RateLimitResponse.CODE_OVER_LIMIT:
                response.overall_code = RateLimitResponse.CODE_OVER_LIMIT
                self._say(response, entries, refusal)
        return response.SerializeToString()

    def _refusal(self, entries: Mapping[str, str]) -> RateLimited | None:
        path = path_of(entries)
        if self._look is None or (path and not is_model_call(path)):
            return None
        given = given_in(entries)
        if given is None and entries.get(CERTIFICATE):
            return None
        secret = carried(bearer(given)) if given else ""
        caller = self._identities.remembered(f"Bearer {secret}" if secret else None)
        return None if caller is None else self._look.refusal(caller, entries.get("remote_address", ""))

    def _say(self, response: RateLimitResponse, entries: Mapping[str, str], refusal: RateLimited) -> None:
        asked = Asked("POST", path_of(entries), given_in(entries) is not None, entries.get("origin", ""))
        answer = self._refusals.answer("rate_limit", asked, refusal)
        fields = list(answer.headers)
        if not any(name == "retry-after" for name, _ in fields) and refusal.retry_after_seconds is not None:
            fields.append(("retry-after", str(ceil(refusal.retry_after_seconds))))
        response.response_headers_to_add.extend(HeaderValue(key=name, value=value) for name, value in fields)
        response.raw_body = answer.body.encode()


def given_in(entries: Mapping[str, str]) -> str | None:
    """The value of `authorization` that the core will get, wherever the key is. None: there is no key."""
    path, _, query = entries.get("path", "").partition("?")
    return authorization_of(entries, path, query)


def path_of(entries: Mapping[str, str]) -> str:
    """The path of the request, without the query. Empty: it was not told."""
    return entries.get("path", "").partition("?")[0]
