"""Stores over SQLite and a real PostgreSQL, and accounts in them whose endpoint is a receiver."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from headgate.v1.account_pb2 import Account
from headgate.v1.account_service_pb2 import CreateAccountRequest

from gateway_core.call import Caller
from gateway_core.config import Config
from gateway_core.identity.accounts import Accounts
from gateway_core.identity.keyring import Keyring
from gateway_core.storage.store import Store
from gateway_core.storage.webhook import WebhookRow, webhook_rows
from gateway_core.webhooks.webhooks import Webhooks
from tests.gateway_core.identity.conftest import ROOT, database_url, keyring, store
from tests.support.postgres import postgres_server
from tests.support.upstream import Upstream
from tests.support.webhook_receiver import OK, hooks_url

__all__ = ["database_url", "keyring", "postgres_server", "store"]


def config(**settings: Any) -> Config:
    """Endpoints may be on this machine, and are tried again at once."""
    webhooks = {"backoff_seconds": 0.02, "timeout_seconds": 5, **settings}
    return Config.model_validate({"private_endpoint_networks": ["127.0.0.0/8"], "webhooks": webhooks})


@pytest.fixture
async def receiver() -> AsyncIterator[Upstream]:
    async with Upstream() as scripted:
        scripted.script(OK)
        yield scripted


@dataclass
class Post:
    """What makes accounts and their webhooks, and sends these."""

    store: Store
    receiver: Upstream
    operator: Caller
    counts: list[str] = field(default_factory=list)

    def webhooks(self, **settings: Any) -> Webhooks:
        """What a process has that is so configured."""
        return Webhooks(self.store, config(**settings), self.counts.append)

    async def account(self, **fields: Any) -> str:
        """A new account; its id. Its first key is told of."""
        wanted = Account(**{"name": "a", "webhook_url": hooks_url(self.receiver), **fields})
        accounts = Accounts(self.store, self.webhooks())
        return (await accounts.create(self.operator, CreateAccountRequest(account=wanted))).account.id

    async def announce(self, account_id: str, type_: str = "key.deleted", **data: Any) -> None:
        async with self.store.database.transaction() as connection:
            assert await self.webhooks().outbox.announce(connection, account_id, type_, data)

    async def rows(self, account_id: str) -> list[WebhookRow]:
        """The oldest first."""
        async with self.store.database.reading() as connection:
            return (await webhook_rows(connection, account_id, "", 1000))[::-1]


@pytest.fixture
async def post(store: Store, keyring: Keyring, receiver: Upstream) -> Post:
    return Post(store, receiver, await keyring.caller(f"Bearer {ROOT}"))
