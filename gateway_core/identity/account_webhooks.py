"""The webhooks of accounts, as those see them who manage the accounts: tried, and listed."""

import time

from headgate.v1 import webhook_pb2
from headgate.v1.account_service_pb2 import (
    ListWebhooksRequest,
    ListWebhooksResponse,
    SendTestWebhookResponse,
)
from headgate.v1.webhook_pb2 import Webhook

from gateway_core.call import Caller
from gateway_core.errors import Conflict
from gateway_core.identity.fields import page
from gateway_core.identity.ownership import own_or_below
from gateway_core.storage.database import Database
from gateway_core.storage.webhook import WebhookRow, endpoints, webhook_rows
from gateway_core.timestamp import timestamp
from gateway_core.webhooks.event import TEST, webhook
from gateway_core.webhooks.webhooks import Webhooks


class AccountWebhooks:
    """Of a database."""

    def __init__(self, database: Database, webhooks: Webhooks) -> None:
        """Takes where they are kept, and what sends them."""
        self._database = database
        self._webhooks = webhooks

    async def send_test(self, caller: Caller, account_id: str) -> SendTestWebhookResponse:
        """Posts a webhook now, once, which is kept nowhere; raises NotFound, and Conflict where nothing is sent."""
        async with self._database.reading() as connection:
            account = await own_or_below(connection, caller, account_id)
            endpoint = (await endpoints(connection, [account.id])).get(account.id)
        self._webhooks.check_enabled()
        if endpoint is None:
            message = "The account has no webhook_url, or its endpoint answered with status 410: set webhook_url."
            raise Conflict(message, resource="account", id=account.id)
        sent = webhook(TEST, account.id, {})._replace(attempts=1)
        began = time.perf_counter()
        outcome = await self._webhooks.sender.send(endpoint, sent)
        return SendTestWebhookResponse(
            id=sent.id,
            delivered=outcome.delivered,
            status_code=outcome.status,
            error=outcome.error,
            duration_ms=round((time.perf_counter() - began) * 1000),
        )

    async def list(self, caller: Caller, request: ListWebhooksRequest) -> ListWebhooksResponse:
        """The webhooks of one account, the newest first; raises InvalidRequest, NotFound."""
        size = page(request.page_size, request.page_token)
        async with self._database.reading() as connection:
            account = await own_or_below(connection, caller, request.account_id)
            found = await webhook_rows(connection, account.id, request.page_token, size + 1)
        token = found[size - 1].id if len(found) > size else ""
        return ListWebhooksResponse(webhooks=map(webhook_message, found[:size]), next_page_token=token)


def webhook_message(row: WebhookRow) -> Webhook:
    """A webhook as it is told."""
    state = webhook_pb2.WEBHOOK_STATE_DELIVERED if row.delivered else webhook_pb2.WEBHOOK_STATE_FAILED
    is_pending = row.ended_us is None
    return Webhook(
        id=row.id,
        account_id=row.account_id,
        type=row.type,
        state=webhook_pb2.WEBHOOK_STATE_PENDING if is_pending else state,
        attempts=row.attempts,
        status_code=row.status_code,
        error=row.error or "",
        next_attempt_time=timestamp(row.due_us) if is_pending else None,
        create_time=timestamp(row.created_us),
        end_time=None if row.ended_us is None else timestamp(row.ended_us),
    )
