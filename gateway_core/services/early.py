"""Refusals before a request is passed on: by what is in memory, so that a flood costs no wait and no count."""

import base64
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import NamedTuple
from urllib.parse import unquote

import structlog
from google.rpc import status_pb2
from grpc import StatusCode

from gateway_core.call import Caller
from gateway_core.errors import GatewayError, RateLimited
from gateway_core.identity.public import PublicLimits
from gateway_core.metering.account_limit import AccountLimits
from gateway_core.metering.lease import SharedLimits
from gateway_core.metering.limit_header import limit_headers
from gateway_core.metering.plan import NO_PLAN, Plans
from gateway_core.pipeline.admit import reached
from gateway_core.services.edge import Context
from gateway_core.services.envoy_request import is_grpc

log = structlog.get_logger("headgate.services")

PEERS_AT_MOST = 1024
HTTP_OF_CODE = {StatusCode.UNAUTHENTICATED: 401, StatusCode.PERMISSION_DENIED: 403, StatusCode.RESOURCE_EXHAUSTED: 429}

Fields = Sequence[tuple[str, str]]


class Asked(NamedTuple):
    """The request that is refused."""

    method: str
    path: str
    """Without the query."""
    headers: Mapping[str, str]


class Answer(NamedTuple):
    """What its caller gets."""

    status: int
    """Of HTTP."""
    headers: Fields
    body: str


Words = Callable[[str, str, Mapping[str, str], status_pb2.Status], tuple[int, Fields, str]]
"""The answer of REST that says a failure: takes the method, path and header fields of the request, and the failure."""


def plain(_method: str, _path: str, _headers: Mapping[str, str], failure: status_pb2.Status) -> tuple[int, Fields, str]:
    """The sentence alone: what there is where nobody knows the dialects."""
    codes = {code.value[0]: status for code, status in HTTP_OF_CODE.items()}
    return codes.get(failure.code, 503), (("content-type", "text/plain"),), failure.message


class Refusals:
    """What callers get who are refused, and how often."""

    def __init__(self, count: Callable[[str, str], None]) -> None:
        """Takes what counts a refusal: by which service, and the word for its reason."""
        self._count = count
        self.words: Words = plain
        """Set by whoever knows the dialects of REST."""

    def answer(self, service: str, asked: Asked, error: GatewayError) -> Answer:
        """Over gRPC the status as the core itself gives it, else the dialect's words."""
        self._count(service, error.word)
        status = error.to_status()
        if not is_grpc(asked.path):
            return Answer(*self.words(asked.method, asked.path, asked.headers, status))
        details = base64.b64encode(status.SerializeToString()).rstrip(b"=").decode("ascii")
        fields = (("grpc-status", str(status.code)), ("grpc-status-details-bin", details))
        return Answer(HTTP_OF_CODE.get(error.code, 503), fields, error.message)


class Peers:
    """Who may ask about requests."""

    def __init__(self, networks: Sequence[IPv4Network | IPv6Network]) -> None:
        """Takes their networks."""
        self._networks = networks
        self.may_ask = lru_cache(PEERS_AT_MOST)(self._may_ask)

    async def check(self, context: Context) -> None:
        """Ends the RPC of anybody else with PERMISSION_DENIED."""
        peer = unquote(context.peer())
        if not self.may_ask(peer[: peer.rfind(":")] if peer.startswith("ip") else peer):
            await context.abort(StatusCode.PERMISSION_DENIED, "This address may not ask: see envoy_services.allowed.")

    def _may_ask(self, peer: str) -> bool:
        """Takes gRPC's name of the peer without its port: "ipv4:127.0.0.1", "ipv6:[::1]", "unix:"."""
        kind, _, rest = peer.partition(":")
        if kind == "unix":
            return True
        address = ip_address(rest.strip("[]"))
        known = (address.version == 6 and address.ipv4_mapped) or address
        found = any(known in network for network in self._networks)
        if not found:
            log.warning("envoy_service_refused", peer=peer)
        return found


class Look:
    """Whether a call would be refused for a limit in time, as far as this process knows without asking anybody.

    It counts nothing: the pipeline does, once a call comes so far.
    """

    def __init__(self, public: PublicLimits, plans: Plans, limits: SharedLimits) -> None:
        """Takes what the pipeline decides by."""
        self._public = public
        self._plans = plans
        self._limits = limits
        self._accounts = AccountLimits(limits)

    def refusal(self, caller: Caller, address: str) -> RateLimited | None:
        """What the call would be refused with; takes the address that the caller has. None: it may be let through."""
        if caller.kind == "public" and (refused := self._public.refusal(caller.key_id, address)) is not None:
            return refused
        if not caller.plan and caller.requests_per_minute is None:
            return None
        plan = self._plans.known(caller.plan) if caller.plan else NO_PLAN
        if plan is None:
            return None
        limits, now_us = self._accounts.of(caller, plan), self._limits.now_us()
        for limit in limits:
            if limit.shared.is_reached(now_us):
                return reached(limit, caller.account_id, now_us, limit_headers(limits, now_us))
        return None
