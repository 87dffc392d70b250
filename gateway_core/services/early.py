"""Refusals before a request is passed on: by what is in memory, so that a flood costs no wait and no count."""

import base64
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import NamedTuple, Protocol
from urllib.parse import unquote

import structlog
from google.rpc import status_pb2
from grpc import StatusCode

from gateway_core.call import Caller
from gateway_core.errors import GatewayError, RateLimited
from gateway_core.identity.public import PublicLimits
from gateway_core.metering.account_limit import AccountLimits, Limit, Limits
from gateway_core.metering.lease import SharedLimit, SharedLimits
from gateway_core.metering.plan import NO_PLAN, Plans
from gateway_core.pipeline.admit import reached
from gateway_core.pipeline.validate import is_request_id
from gateway_core.services.edge import Context
from gateway_core.services.envoy_request import is_grpc

log = structlog.get_logger("headgate.services")

PEERS_AT_MOST = 1024
ANSWERS_AT_MOST = 1024
LETTERS_AT_MOST = 256
ACCOUNTS_AT_MOST = 10_000
SAME_US = 100_000
"""For so long a refusal says the same of the end of a window."""
HTTP_OF_CODE = {StatusCode.UNAUTHENTICATED: 401, StatusCode.PERMISSION_DENIED: 403, StatusCode.RESOURCE_EXHAUSTED: 429}

Fields = Sequence[tuple[str, str]]


class Asked(NamedTuple):
    """The request that is refused."""

    method: str
    path: str
    """Without the query."""
    has_key: bool
    origin: str = ""
    request_id: str = ""


class Answer(NamedTuple):
    """What its caller gets."""

    status: int
    """Of HTTP."""
    headers: Fields
    body: str


class Words(Protocol):
    """Says a failure in REST."""

    def __call__(self, method: str, path: str, status: bytes, *, has_key: bool, origin: str) -> tuple[int, Fields, str]:
        """HTTP status, header fields and body.

        Takes the method and path, a google.rpc.Status, whether the request has a key, and the origin that it names.
        """
        ...


def plain(method: str, path: str, status: bytes, *, has_key: bool, origin: str) -> tuple[int, Fields, str]:
    """The sentence alone: what there is where nobody knows the dialects."""
    failure = status_pb2.Status.FromString(status)
    codes = {code.value[0]: http for code, http in HTTP_OF_CODE.items()}
    return codes.get(failure.code, 503), (("content-type", "text/plain"),), failure.message


class Refusals:
    """What callers get who are refused, and how often."""

    def __init__(self, count: Callable[[str, str], None]) -> None:
        """Takes what counts a refusal: by which service, and the word for its reason."""
        self._count = count
        self.speak(plain)

    def speak(self, words: Words) -> None:
        """Says what is refused over REST in these words from now on."""
        self._words = words
        # A flood is told the same again and again.
        self._known_words = lru_cache(ANSWERS_AT_MOST)(words)

    def answer(self, service: str, asked: Asked, error: GatewayError) -> Answer:
        """Over gRPC the status as the core itself gives it, else the dialect's words."""
        self._count(service, error.word)
        status = error.to_status()
        serialized = status.SerializeToString()
        if is_grpc(asked.path):
            details = base64.b64encode(serialized).rstrip(b"=").decode("ascii")
            fields = (("grpc-status", str(status.code)), ("grpc-status-details-bin", details))
            return Answer(HTTP_OF_CODE.get(error.code, 503), fields, error.message)
        is_short = len(asked.path) + len(asked.origin) <= LETTERS_AT_MOST
        words = self._known_words if is_short else self._words
        http, told, body = words(asked.method, asked.path, serialized, has_key=asked.has_key, origin=asked.origin)
        if is_request_id(asked.request_id):
            told = (*told, ("x-request-id", asked.request_id))
        return Answer(http, told, body)


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


class Recent(NamedTuple):
    """What an account was last refused with."""

    limit: SharedLimit
    made_us: int
    refusal: RateLimited


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
        self._recent: dict[str, Recent] = {}

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
        for limit in limits.all:
            if limit.shared.is_reached(now_us):
                return self._told(caller.account_id, limit, limits, now_us)
        return None

    def _told(self, account_id: str, limit: Limit, limits: Limits, now_us: int) -> RateLimited:
        """The refusal, which is the same for a moment: the words for it are found once."""
        recent = self._recent.get(account_id)
        if recent is None or recent.limit is not limit.shared or not 0 <= now_us - recent.made_us < SAME_US:
            if len(self._recent) >= ACCOUNTS_AT_MOST:
                self._recent.clear()
            refusal = reached(limit, account_id, now_us, limits.left.headers(now_us))
            recent = self._recent[account_id] = Recent(limit.shared, now_us, refusal)
        return recent.refusal
