"""Posts a webhook to an account's endpoint, signed, and tells what came of it."""

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import NamedTuple

import structlog

from gateway_core.config import Config, ProviderConfig, TimeoutsConfig
from gateway_core.errors import GatewayError
from gateway_core.storage.account import hook_secret_place
from gateway_core.storage.errors import SecretUnreadable
from gateway_core.storage.secret_box import SecretBox
from gateway_core.storage.webhook import Endpoint, WebhookRow
from gateway_core.upstream.answer import Answer
from gateway_core.upstream.http import Upstream
from gateway_core.webhooks.endpoint import Place, place
from gateway_core.webhooks.signature import HEADER, signature

log = structlog.get_logger("headgate.webhooks")

EVENT_HEADER = "X-Headgate-Event"
DELIVERY_HEADER = "X-Headgate-Delivery"
ATTEMPT_HEADER = "X-Headgate-Attempt"
ANSWER_BYTES = 64 * 1024
"""Most that is read of an answer, which is thrown away."""
GONE = 410
RETRY_AFTER_AT_MOST = 3600
NAME = "webhook"
"""What errors of the HTTP client call the endpoint."""


class Outcome(NamedTuple):
    """What came of an attempt."""

    status: int | None
    """That the endpoint answered with. None: it did not, or with a redirect."""
    error: str = ""
    """A sentence. Empty: it was delivered."""
    retry_after_seconds: int = 0
    """How long the endpoint wants to be left alone."""

    @property
    def delivered(self) -> bool:
        """Whether the endpoint has it."""
        return not self.error

    @property
    def is_gone(self) -> bool:
        """Whether the endpoint wants no more of them, ever."""
        return self.status == GONE


class Sender:
    """Posts webhooks. Public addresses only, and those of the networks that the operator allows.

    The guard is that of gateways' own endpoints: a host is looked up for each attempt, addresses that may not be
    dialled are left out, and the connection goes to one of the others; its certificate must be that of the host's name.
    """

    def __init__(self, config: Config, box: SecretBox) -> None:
        """Takes how long an endpoint may take and where it may be, and what opens the hook secrets."""
        self._seconds = config.webhooks.timeout_seconds
        self._networks = config.private_endpoint_networks
        self._box = box

    async def send(self, endpoint: Endpoint, webhook: WebhookRow) -> Outcome:
        """Posts a webhook once; what came of it, whatever that is."""
        try:
            where = place(endpoint.url, self._networks)
        except ValueError as error:
            return Outcome(None, f"The account's webhook_url {error}.")
        body = webhook.body.encode()
        headers = {EVENT_HEADER: webhook.type, DELIVERY_HEADER: webhook.id, ATTEMPT_HEADER: str(webhook.attempts)}
        try:
            if endpoint.hook_secret is not None:
                secret = self._box.open(endpoint.hook_secret, hook_secret_place(endpoint.account_id))
                headers[HEADER] = signature(secret, body)
        except SecretUnreadable as error:
            log.error("hook_secret_unreadable", account_id=endpoint.account_id, message=str(error))
            return Outcome(None, "The account's hook secret cannot be read: rotate it.")
        return await self._posted(where, body, headers)

    async def _posted(self, where: Place, body: bytes, headers: Mapping[str, str]) -> Outcome:
        seconds = self._seconds
        timeouts = TimeoutsConfig(
            connect_seconds=seconds, first_byte_seconds=seconds, idle_seconds=seconds, total_seconds=seconds
        )
        config = ProviderConfig(
            kind="openai",
            base_url=where.server,
            timeouts=timeouts,
            max_connections=1,
            answer_bytes=ANSWER_BYTES,
            private_networks=self._networks,
        )
        upstream = Upstream(NAME, config, {"accept-encoding": "identity"})
        outcome = Outcome(None, f"The endpoint has not answered within {seconds:g} s.")
        try:
            async with asyncio.timeout(seconds):
                answer = await upstream.open("POST", where.target, body=body, headers=headers)
                outcome = outcome_of(answer)
                await read_away(answer)
        except TimeoutError:
            pass  # what it has answered by then counts
        except GatewayError as error:
            if outcome.status is None:
                outcome = Outcome(None, error.message.replace(f"Provider {NAME}", "The endpoint"))
        finally:
            await upstream.close()
        return outcome


def outcome_of(answer: Answer) -> Outcome:
    """What an answer means."""
    status = answer.status
    if 200 <= status < 300:
        return Outcome(status)
    told = answer.header(b"retry-after").strip()
    seconds = min(int(told), RETRY_AFTER_AT_MOST) if told.isascii() and told.isdigit() and len(told) < 10 else 0
    return Outcome(status, f"The endpoint answered with status {status}.", seconds)


async def read_away(answer: Answer) -> None:
    """Reads so much of a body that an ordinary server can end its answer."""
    left = ANSWER_BYTES
    async with aclosing(answer.pieces()) as pieces:
        async for piece in pieces:
            left -= len(piece)
            if left <= 0:
                return
