"""envoy.service.auth.v3.Authorization: an Envoy in front asks whether a request may be passed on."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import grpc
import structlog
from headgate.envoy.v1.authorization_pb2 import AttributeContext, CheckRequest, CheckResponse
from headgate.envoy.v1.header_pb2 import HeaderValue, HeaderValueOption

from gateway_core.errors import GatewayError, QuotaExceeded, Unauthenticated
from gateway_core.identity.keyring import Identities
from gateway_core.services.early import Answer, Asked, Look, Peers, Refusals
from gateway_core.services.edge import Context
from gateway_core.services.envoy_request import CERTIFICATE, authorization_of, is_model_call, needs_key

log = structlog.get_logger("headgate.services")

SERVICE = "envoy.service.auth.v3.Authorization"
ADDRESS = "x-envoy-external-address"
CALLERS_AT_MOST = 10_000
OK = CheckResponse(status=CheckResponse.Status(), ok_response=CheckResponse.OkHttpResponse())
LET_THROUGH = OK.SerializeToString()


class AuthorizationService:
    """Refuses who may not call, and who is over a limit. All else goes on, where it is decided again.

    So does what cannot be told now: the core says what is wrong better than a proxy would.
    """

    def __init__(
        self, identities: Identities, look: Look | None, peers: Peers, refusals: Refusals, *, certificates: bool
    ) -> None:
        """Takes who is known; what tells of limits, None: nothing; who may ask; what refused callers get.

        And whether callers may be known by a certificate: who shows one, and has no key, is let through.
        """
        self._identities = identities
        self._look = look
        self._peers = peers
        self._refusals = refusals
        self._certificates = certificates

    def register(self, server: Any) -> None:
        """Begins to answer at a server. What is answered is bytes already."""
        handler: Any = grpc.unary_unary_rpc_method_handler(self.check, CheckRequest.FromString)
        server.add_registered_method_handlers(SERVICE, {"Check": handler})

    async def check(self, request: CheckRequest, context: Context) -> bytes:
        """Whether a request may be passed on."""
        await self._peers.check(context)
        http = request.attributes.request.http
        path, _, query = http.path.partition("?")
        if not needs_key(http.method, path):
            return LET_THROUGH
        headers = headers_of(http)
        authorization = authorization_of(headers, path, query)
        if authorization is None and self._certificates and CERTIFICATE in headers:
            return LET_THROUGH
        try:
            caller = self._identities.remembered(authorization) or await self._identities.caller(authorization)
            if self._look is not None and is_model_call(path):
                refusal = self._look.refusal(caller, address_of(request.attributes, headers))
                if refusal is not None:
                    raise refusal
        except (Unauthenticated, QuotaExceeded) as error:
            about = (headers.get("origin", ""), headers.get("x-request-id", ""))
            asked = Asked(http.method, path, authorization is not None, *about)
            return refused(self._refusals.answer("authorization", asked, error))
        except GatewayError as error:
            log.warning("authorization_left_open", message=str(error))
            return LET_THROUGH
        return let_through(caller.account_id, caller.key_id)


def headers_of(http: AttributeContext.HttpRequest) -> Mapping[str, str]:
    """The header fields by their names; of several with one name the last where they come one by one."""
    if http.headers:
        return http.headers
    return {field.key: field.value or field.raw_value.decode("latin-1") for field in http.header_map.headers}


def address_of(attributes: AttributeContext, headers: Mapping[str, str]) -> str:
    """The caller's address: whom Envoy takes for it, behind proxies that it believes; else who is connected to it."""
    return headers.get(ADDRESS) or attributes.source.address.socket_address.address


@lru_cache(CALLERS_AT_MOST)
def let_through(account_id: str, key_id: str) -> bytes:
    """The answer for a caller: with its account and the id of its key, which is none of the key itself."""
    response = CheckResponse()
    response.CopyFrom(OK)
    if account_id:
        response.dynamic_metadata.update({"account_id": account_id, "key_id": key_id})
    return response.SerializeToString()


def refused(answer: Answer) -> bytes:
    """The answer for a caller who is refused."""
    status = CheckResponse.Status(code=grpc.StatusCode.PERMISSION_DENIED.value[0])
    denied = CheckResponse.DeniedHttpResponse(
        status=CheckResponse.HttpStatus(code=answer.status),
        headers=[HeaderValueOption(header=HeaderValue(key=name, value=value)) for name, value in answer.headers],
        body=answer.body,
    )
    return CheckResponse(status=status, denied_response=denied).SerializeToString()
