"""The single checks of `headgate doctor`: a provider, a port, the clock."""

import asyncio
import os
import re
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx
from grpc import aio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from gateway_core.config import ProviderConfig
from gateway_core.known.hosts import known_hosts
from gateway_core.providers.bedrock.credentials import resolved
from gateway_core.upstream.origin import tls
from headgate_cli.address import LOOPBACK, Address, bound
from headgate_cli.client import channel_options
from headgate_cli.discovery import document, is_headgate, text
from headgate_cli.startup import shown_url

CONNECT_SECONDS = 5.0
LIST_SECONDS = 15.0
PORT_SECONDS = 2.0
OPENAI_LIST = ("/models", "data")
VERSION = {"anthropic": {"anthropic-version": "2023-06-01"}}
"""Headers that a kind of provider wants beside the key."""

KEY_HEADERS = {"anthropic": "x-api-key", "gemini": "x-goog-api-key"}
"""The header in which a kind of provider wants the key, alone; the others as their quirks tell."""

LISTS = {"gemini": ("/models", "models"), "ollama": ("/api/tags", "models")}
"""Where a kind of provider lists its models, and under which name; the others do as OpenAI does."""

CLOCK_SECONDS = 60.0
"""How far the clock may be off: beyond that, TLS and signed requests begin to fail."""
MESSAGE_BYTES = 4 << 20
Asks = Callable[[Address], Awaitable[str | None]]
"""What tells how Headgate is at an address. None: none answers."""


@dataclass(frozen=True, slots=True)
class Check:
    """What a check found."""

    verdict: Literal["ok", "note", "wrong"]
    subject: str
    text: str
    advice: str = ""
    """What to do. Empty: nothing."""


class Fault(Exception):
    """A step of a check that failed."""

    def __init__(self, text: str, advice: str) -> None:
        """Takes what is wrong, and what to do."""
        super().__init__(text)
        self.text = text
        self.advice = advice


class ProviderCheck:
    """Goes the way of a request to a provider, step by step: name, connection, TLS, key."""

    def __init__(self, name: str, row: ProviderConfig, key_place: str) -> None:
        """Takes the provider's row, and where its key comes from, for advice."""
        self._name = name
        self._row = row
        self._key_place = key_place
        self._steps: list[str] = []
        self.clock_offset: float | None = None
        """How many seconds the host's clock is ahead. None: it did not tell."""

    async def run(self) -> Check:
        """Goes the way as far as it leads."""
        subject = f"provider {self._name}"
        if self._row.kind == "bedrock":
            try:
                self._row = resolved(self._name, self._row, os.environ)
            except ValueError as error:
                return Check("wrong", subject, str(error), "set it in the row, or in the environment: AWS_REGION, …")
        if self._row.base_url is None:
            return Check("ok", subject, "answers in this process")
        where = shown_url(self._row.base_url)
        try:
            if not goes_by_proxy(self._row.base_url):
                await self._connect(self._row.base_url)
            verdict = await self._ask_for_models(self._row.base_url)
        except Fault as fault:
            return Check("wrong", subject, f"{where}: {fault.text}{self._so_far()}", fault.advice)
        return Check(verdict.verdict, subject, f"{where}: {verdict.text}{self._so_far()}", verdict.advice)

    def _so_far(self) -> str:
        return f" ({', '.join(self._steps)})" if self._steps else ""

    def _took(self, step: str, started: float) -> None:
        self._steps.append(f"{step} {(time.perf_counter() - started) * 1000:.0f} ms")

    async def _connect(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        started = time.perf_counter()
        try:
            await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError:
            raise Fault(f"the name {host} is not known", "mend base_url, or this machine's DNS") from None
        self._took("name", started)
        started = time.perf_counter()
        try:
            await connected(host, port, None)
        except TimeoutError:
            advice = "mend base_url, or let the firewall pass it; a proxy is taken from HTTPS_PROXY"
            raise Fault(f"no connection in {CONNECT_SECONDS:g} s", advice) from None
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise Fault(f"no connection: {why}", "start it, or mend base_url") from None
        self._took("connection", started)
        if parts.scheme == "https":
            started = time.perf_counter()
            await self._shake_hands(host, port)
            self._took("TLS", started)

    async def _shake_hands(self, host: str, port: int) -> None:
        try:
            await connected(host, port, tls())
        except ssl.SSLCertVerificationError as error:
            advice = "set SSL_CERT_FILE to the file of the authority that signed it; mind this machine's clock"
            raise Fault(f"its certificate is not trusted: {error.verify_message}", advice) from None
        except (OSError, TimeoutError) as error:
            raise Fault(f"no TLS: {error}", "mend base_url: http:// in the place of https://?") from None

    async def _ask_for_models(self, base_url: str) -> Check:
        headers = self._headers()
        if headers is None:
            return Check("ok", "", "can be reached; its key is not checked, because it lists no models")
        by_proxy = goes_by_proxy(base_url)
        started = time.perf_counter()
        try:
            async with httpx.AsyncClient(verify=tls(), timeout=LIST_SECONDS, trust_env=by_proxy) as client:
                url, mark, query = base_url.partition("?")
                path, _ = LISTS.get(self._row.kind, OPENAI_LIST)
                answer = await client.get(f"{url}{path}{mark}{query}", headers=headers)
        except httpx.TimeoutException:
            raise Fault(f"no list of models in {LIST_SECONDS:g} s", "look into its log, or try again") from None
        except httpx.HTTPError as error:
            raise Fault(f"no answer: {error or type(error).__name__}", "mend base_url, or the proxy") from None
        self._took("list", started)
        self.clock_offset = clock_offset(answer.headers)
        return self._verdict(answer.status_code, document(answer))

    def _headers(self) -> dict[str, str] | None:
        """The headers of a request for the models; None where the host does not list them."""
        row = self._row
        key = row.api_key.get_secret_value() if row.api_key is not None else None
        host = known_hosts().at(row.base_url or "")
        if host is not None and host.list_headers and key is not None:
            return {name: value.replace("{key}", key) for name, value in host.list_headers.items()}
        if not row.lists_models or row.kind == "bedrock":
            return None
        headers = {name.lower(): value.get_secret_value() for name, value in row.headers.items()}
        headers = VERSION.get(row.kind, {}) | headers
        if key is not None:
            field = KEY_HEADERS.get(row.kind, row.quirks.key_header)
            headers.setdefault(field, f"Bearer {key}" if field == "authorization" else key)
        return headers

    def _verdict(self, status: int, answer: Any) -> Check:
        match status:
            case 200:
                data = answer.get(LISTS.get(self._row.kind, OPENAI_LIST)[1]) if isinstance(answer, dict) else None
                if not isinstance(answer, dict) or not isinstance(data, list | None):
                    raise Fault("answers, but not as OpenAI's API does", "mend base_url: most end with /v1")
                return Check("ok", "", f"lists {len(data or ())} models")
            case 400 | 401 | 403 if status != 400 or self._row.kind == "gemini":
                # Google says 400 of a key that it does not know.
                what = "refuses the key" if self._row.api_key is not None else "wants a key"
                raise Fault(f"{what} (HTTP status {status})", f"set a key that holds ({self._key_place})")
            case 404:
                advice = "mend base_url: most end with /v1; if it is right, set lists_models: false"
                raise Fault("has no list of models (HTTP status 404)", advice)
            case 429:
                return Check("note", "", "can be reached, and limits the rate now (HTTP status 429)", "wait")
        raise Fault(f"is in trouble (HTTP status {status})", "look into its log, or try again")


async def connected(host: str, port: int, context: ssl.SSLContext | None) -> None:
    """Connects and closes again; raises OSError, TimeoutError."""
    async with asyncio.timeout(CONNECT_SECONDS):
        _, writer = await asyncio.open_connection(host, port, ssl=context)
    writer.transport.abort()


def goes_by_proxy(url: str) -> bool:
    """Whether requests to a URL go through a proxy of the environment: then it cannot be reached directly."""
    parts = urlsplit(url)
    if parts.hostname in LOOPBACK:
        return False
    proxies = getproxies()
    return bool(proxies.get(parts.scheme) or proxies.get("all")) and not proxy_bypass(parts.hostname or "")


def clock_offset(headers: Mapping[str, str]) -> float | None:
    """How many seconds the clock that wrote a Date header is ahead of this machine's."""
    try:
        told = parsedate_to_datetime(headers["date"])
    except (KeyError, ValueError):
        return None
    return (told - datetime.now(UTC)).total_seconds() if told.tzinfo is not None else None


def clock_check(offsets: Sequence[float]) -> Check:
    """Compares this machine's clock with those of the providers."""
    if not offsets:
        return Check("note", "clock", f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC; no provider told the time")
    offset = sorted(offsets)[len(offsets) // 2]
    if abs(offset) > CLOCK_SECONDS:
        off = f"{abs(offset):.0f} s {'slow' if offset > 0 else 'fast'}"
        return Check("wrong", "clock", f"is {off}, by the clocks of the providers", "set it, or start NTP")
    return Check("ok", "clock", f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC, as the providers say")


async def port_check(what: str, address: Address, *, may_move: bool, asks: Asks | None = None) -> Check:
    """Whether `headgate serve` can have an address, or does already; takes another way to ask who is there."""
    subject = f"port {address.port}"
    try:
        bound(address).close()
    except OSError as error:
        answer = await (asks or (served_over_http if what == "HTTP" else served_over_grpc))(address.reachable())
        if answer:
            return Check("ok", subject, f"{address}: Headgate answers over {what} ({answer})")
        problem = f"{address}: not free for {what}: {error.strerror or error}"
        if may_move:
            return Check("note", subject, problem, "headgate serve takes the next free one")
        return Check("wrong", subject, problem, f"end what listens there, or set listen.{what.lower()}")
    return Check("ok", subject, f"{address}: free for {what}")


async def served_over_http(address: Address) -> str | None:
    """What Headgate says of its health at an address; None where no Headgate answers."""
    async with httpx.AsyncClient(verify=False, trust_env=False, timeout=PORT_SECONDS) as client:
        answer = await text(client, f"http://{address}/healthz")
    health: Any = document(answer) if answer is not None else None
    return str(health.get("status")) if is_headgate(health) else None


STATES = {1.0: "half open", 2.0: "open"}
CIRCUIT = re.compile(r"^headgate_circuit_state\{(?P<labels>.*)\} (?P<state>[0-9.]+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


async def circuits_check(address: Address) -> Check | None:
    """Which targets the Headgate at an address leaves alone, by its metrics. None: none answers, or shows them."""
    async with httpx.AsyncClient(verify=False, trust_env=False, timeout=PORT_SECONDS) as client:
        answer = await text(client, f"http://{address.reachable()}/metrics")
    if answer is None or answer.status_code != 200:
        return None
    found = [(dict(LABEL.findall(each["labels"])), float(each["state"])) for each in CIRCUIT.finditer(answer.text)]
    shut = [circuit_text(labels, STATES[state]) for labels, state in found if state in STATES]
    if not shut:
        return Check("ok", "circuits", "all are closed") if found else None
    return Check("note", "circuits", ", ".join(shut), "these targets fail: look into the log, and at the provider")


def circuit_text(labels: dict[str, str], state: str) -> str:
    """A target and how it stands: "lab/tiny open"; of several workers each has its own view."""
    worker = labels.pop("worker", None)
    return f"{'/'.join(labels.values())} {state}{'' if worker is None else f' in worker {worker}'}"


async def served_over_grpc(address: Address) -> str | None:
    """What Headgate says of its health at an address; None where no Headgate answers."""
    async with aio.insecure_channel(str(address), channel_options(address, MESSAGE_BYTES)) as channel:
        request = HealthCheckRequest(service="headgate.v1.ChatCompletionService")
        try:
            response = await HealthStub(channel).Check(request, timeout=PORT_SECONDS)
        except aio.AioRpcError:
            return None
    return str(HealthCheckResponse.ServingStatus.Name(response.status)).lower()
