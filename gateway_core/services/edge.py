"""What every service does at its edge: a context becomes a call, an error becomes a status."""

import asyncio
import os
import re
import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, NoReturn
from urllib.parse import unquote

import structlog
from grpc import aio

from gateway_core.call import Call, Rewrite
from gateway_core.errors import GatewayError, Internal
from gateway_core.inprocess.metadata import Texts
from gateway_core.metering.price import usd_text
from gateway_core.pipeline.validate import is_request_id
from gateway_core.storage.errors import StorageUnavailable
from gateway_core.telemetry import names

log = structlog.get_logger("headgate.services")

WARNINGS_AT_MOST = 32
ATTEMPTS_AT_MOST = 1000
"""Characters that tell of attempts."""
ADDRESSES_AT_MOST = 1024
NAMES_AT_MOST = 1024
TELLING_SECONDS = 0.05
TELLING_SHARE = 0.05
"""Of a deadline, at most: for the end of a call to reach its caller."""
ADDRESS_AT_MOST = 64
"""Characters of a caller's address, as a bridge tells it."""
Context = aio.ServicerContext[Any, Any]
TEXT = frozenset({str})

# The keys of what answers tell, as they come together.
UNANSWERED: tuple[str, ...] = ("x-headgate-request-id",)
ANSWERED = (*UNANSWERED, "x-headgate-provider")
ATTEMPTED = ("x-headgate-attempts",)
BY_GATEWAY = ("x-headgate-gateway",)
USED = ("x-headgate-input-tokens", "x-headgate-output-tokens")
CHARGED = ("x-headgate-cost",)
WARNED = ("x-headgate-warning",)


def request_id() -> str:
    """A new UUID of version 7 (RFC 9562): its first 48 bits are the time in milliseconds."""
    number = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(os.urandom(10), "big")
    number = (number & ~(0xF << 76)) | (0x7 << 76)
    number = (number & ~(0x3 << 62)) | (0x2 << 62)
    digits = f"{number:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def metadata_of(context: Context) -> dict[str, str]:
    """The caller's metadata, without binary values; of several with one key the last."""
    pairs: Any = context.invocation_metadata()
    columns = getattr(pairs, "columns", None)
    if columns is not None:
        return dict(zip(*columns))  # noqa: B905  # of one length, as the channel knows
    pairs = tuple(pairs or ())  # grpc.aio's own would tell the first of several
    found: dict[str, Any] = dict(pairs)
    if TEXT.issuperset(map(type, found.values())):
        return found
    return {key: value for key, value in pairs if isinstance(value, str)}


class Bridges:
    """The bridges whose word for the addresses of their callers is believed: of this process, and in networks."""

    def __init__(self, networks: Sequence[IPv4Network | IPv6Network] = ()) -> None:
        """Takes the networks of those that are processes of their own."""
        self._networks = networks
        self._trusted = lru_cache(ADDRESSES_AT_MOST)(self._is_in_network)

    def caller_address(self, context: Context, metadata: Mapping[str, str]) -> str:
        """The address of the caller's machine. Empty: not known."""
        peer = context.peer()
        told = metadata.get("x-headgate-client", "")
        if peer == "inprocess:":
            return told
        kind, _, rest = unquote(peer).partition(":")  # "ipv4:127.0.0.1:5555", "ipv6:%5B::1%5D:5555", "unix:"
        address = rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else ""
        is_told = 0 < len(told) <= ADDRESS_AT_MOST and bool(self._networks)
        return told if is_told and address and self._trusted(address) else address

    def _is_in_network(self, address: str) -> bool:
        parsed = ip_address(address)
        plain = (parsed.version == 6 and parsed.ipv4_mapped) or parsed
        return any(plain in network for network in self._networks)


def deadline_of(context: Context) -> float | None:
    """When a call must have ended, on the event loop's clock. None: never.

    A little before the caller stops waiting, so that it hears why, and what was used: its own gRPC, or a proxy between,
    breaks the call off at that very moment, and knows nothing.
    """
    remaining = context.time_remaining()
    if remaining is None:
        return None
    return asyncio.get_running_loop().time() + remaining - min(TELLING_SECONDS, max(0.0, remaining) * TELLING_SHARE)


def chosen_request_id(metadata: Mapping[str, str]) -> str:
    """The caller's x-request-id, or a new one where there is none that a log and a header can hold."""
    given = metadata.get("x-request-id", "")
    return given if is_request_id(given) else request_id()


def answer_metadata(call: Call[Any]) -> Texts:
    """What an answer tells beside itself: the request's id, who answers, failed attempts, cost, limits, rewrites."""
    keys, values, is_legal = UNANSWERED, [call.request_id], True
    if call.target is not None:
        provider = call.target.provider
        keys, values, is_legal = ANSWERED, [call.request_id, provider], is_text(provider)
    if call.failed_attempts:
        keys += ATTEMPTED
        values.append(attempts_text(call))
    if call.gateway is not None:
        keys += BY_GATEWAY
        values.append(call.gateway.id)
    usage, left = call.usage, call.limits_left
    if usage is not None:
        keys += USED
        values += (str(usage.prompt), str(usage.completion))
    if call.cost_pico_usd is not None:
        keys += CHARGED
        values.append(usd_text(call.cost_pico_usd))
    if left is not None:
        keys += left.keys
        values += left.values()
    if call.rewrites:
        told = warnings(call.rewrites)
        keys += WARNED * len(told)
        values += told
    return Texts(keys, values, is_legal)


@lru_cache(NAMES_AT_MOST)
def is_text(name: str) -> bool:
    """Whether a name of the configuration is what metadata can carry; all else that an answer tells is known to be."""
    return name.isascii() and name.isprintable()


def answer_pairs(call: Call[Any]) -> tuple[tuple[str, str], ...]:
    """The same, to be kept."""
    return tuple(answer_metadata(call))


def attempts_text(call: Call[Any]) -> str:
    """Each attempt of a call and what became of it, the last at the end: "lab/tiny=503, spare/tiny=ok"."""
    told = list(call.failed_attempts)
    if call.attempt_count > len(told) and call.target is not None:
        told.append(f"{call.target.provider}/{call.target.model}={names.OK}")
    return printable(", ".join(told), ATTEMPTS_AT_MOST)


def warnings(rewrites: Sequence[Rewrite]) -> list[str]:
    """One line of printable ASCII for each rewrite; a long list ends with how many more there are."""
    lines = [printable(f"{rewrite.name}: {rewrite.reason}") for rewrite in rewrites[:WARNINGS_AT_MOST]]
    more = len(rewrites) - len(lines)
    return [*lines, f"and {more} more"] if more else lines


def printable(text: str, at_most: int = 300) -> str:
    """A text as metadata and headers can carry it: other characters are escaped, and the length is bounded."""
    return re.sub(r"[^\x20-\x7e]", lambda match: match[0].encode("unicode_escape").decode("ascii"), text)[:at_most]


class Rpc:
    """An RPC that does not go through the pipeline: its id, and the one line that tells how it ended."""

    def __init__(self, context: Context, operation: str) -> None:
        """Takes what is asked, in a word."""
        metadata = metadata_of(context)
        self._context = context
        self._began = time.perf_counter()
        self._fields = {
            names.REQUEST_ID: chosen_request_id(metadata),
            names.OPERATION: operation,
            names.DIALECT: metadata.get(names.DIALECT_METADATA, names.GRPC_DIALECT)[:20],
        }
        self._answer_metadata = (("x-headgate-request-id", self._fields[names.REQUEST_ID]),)
        context.set_trailing_metadata(self._answer_metadata)

    def succeeded(self) -> None:
        """Tells that it was answered."""
        self._tell(names.OK)

    async def failed(self, error: Exception) -> NoReturn:
        """Tells why it was not, and ends it so."""
        if isinstance(error, GatewayError):
            self._tell(error.word, message=error.message[:300])
        await fail(self._context, error, self._answer_metadata)

    def _tell(self, status: str, **more: str) -> None:
        duration_ms = round((time.perf_counter() - self._began) * 1000, 1)
        log.info(names.CALL, **self._fields, **{names.STATUS: status, names.DURATION_MS: duration_ms}, **more)


async def fail(context: Context, error: Exception, metadata: Sequence[tuple[str, str]] = ()) -> NoReturn:
    """Ends the RPC with the status of what failed: what every service does with whatever it catches.

    An error that is not a GatewayError is a fault of ours: it is logged in full and leaves as INTERNAL, without detail.
    """
    if isinstance(error, aio.AbortError | aio.UsageError):
        raise error
    if isinstance(error, GatewayError):
        failure = error
        if isinstance(error, StorageUnavailable):
            log.warning("storage_unavailable", message=str(error), **dict(metadata[:1]))
    else:
        # What gRPC cannot send is nobody's fault: nearly always the caller has left.
        tell = log.info if isinstance(error, aio.InternalError) else log.error
        tell("internal_error", exc_info=error, **dict(metadata[:1]))
        failure = Internal("Headgate failed; the log tells why, under the request id.")
    details = ("grpc-status-details-bin", failure.to_status().SerializeToString())
    await context.abort(failure.code, failure.message, (*metadata, details))
