"""Puts webhooks where they are sent from, in the transaction of what they tell of: both happen, or neither does."""

from collections.abc import Mapping
from typing import Any

from gateway_core.storage.database import Database
from gateway_core.storage.webhook import TOPIC, add_webhook, endpoints
from gateway_core.webhooks.event import webhook


class Outbox:
    """Of a database."""

    def __init__(self, database: Database, *, is_enabled: bool = True) -> None:
        """Takes whether anything is sent at all."""
        self._database = database
        self._is_enabled = is_enabled

    async def announce(self, connection: Any, account_id: str, type_: str, data: Mapping[str, Any]) -> bool:
        """Has an account told of something once the transaction is committed; whether it wants to be.

        Takes a connection that `Database.transaction` gave.
        """
        if not await self.is_wanted(connection, account_id, type_):
            return False
        await add_webhook(connection, webhook(type_, account_id, data))
        await self._database.changes.publish(connection, TOPIC, account_id)
        return True

    async def is_wanted(self, connection: Any, account_id: str, type_: str) -> bool:
        """Whether an account has an endpoint, and wants to be told of such things."""
        if not self._is_enabled:
            return False
        endpoint = (await endpoints(connection, [account_id])).get(account_id)
        return endpoint is not None and (endpoint.events is None or type_ in endpoint.events)
