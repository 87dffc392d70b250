"""Who calls with a certificate in the place of a key: remembered in memory, as of keys."""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import structlog

from gateway_core.call import Caller
from gateway_core.config_tls import ROOT
from gateway_core.errors import Unauthenticated
from gateway_core.identity.caller import caller_of
from gateway_core.storage import account as accounts
from gateway_core.storage.account import AccountRow
from gateway_core.storage.changes import Change
from gateway_core.storage.database import Database

log = structlog.get_logger("headgate.identity")

ACCOUNT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class CertificateCallers:
    """The accounts of certificates. Belongs to one event loop, between `open` and `close`."""

    def __init__(self, database: Database, names: Mapping[str, str]) -> None:
        """Takes the account of each name, as the configuration says."""
        self._database = database
        self._names = names
        self._callers: dict[str, Caller] = {}
        self._changes = 0
        self._stack = contextlib.ExitStack()

    def open(self) -> None:
        """Begins to learn of changes."""
        self._stack.callback(self._database.changes.subscribe(accounts.TOPIC, self._forget))

    async def tell_unknown(self) -> None:
        """Tells in the log which accounts there are not, or not yet."""
        for name in sorted(self._names):
            if await self._loaded(name) is None:
                log.warning("certificate_account_unknown", message=unknown(name, self._names[name]))

    def close(self) -> None:
        """Ends."""
        self._stack.close()

    async def caller(self, name: str) -> Caller | None:
        """Who calls with a certificate of this name. None: nobody whom the configuration knows.

        Raises Unauthenticated where there is no such account.
        """
        caller = self._callers.get(name)
        if caller is None and name in self._names:
            caller = await self._loaded(name)
            if caller is None:
                raise Unauthenticated(unknown(name, self._names[name]))
        return caller

    async def _loaded(self, name: str) -> Caller | None:
        changes = self._changes
        async with self._database.reading() as connection:
            account = await found(connection, self._names[name])
            if account is None:
                return None
            allowed = await accounts.allowed_models(connection, account)
        caller = replace(caller_of(account, None, allowed), certificate=name)
        # What changed meanwhile may be what was read.
        if changes == self._changes:
            self._callers[name] = caller
        return caller

    def _forget(self, _: Change) -> None:
        # What an account may do holds for those below it too.
        self._changes += 1
        self._callers.clear()


async def found(connection: Any, account: str) -> AccountRow | None:
    """The account that the configuration means. None: there is none."""
    if ACCOUNT_ID.fullmatch(account):
        return await accounts.account(connection, account)
    root = await accounts.root_account(connection)
    if root is None or account == ROOT:
        return root
    below = await accounts.child_accounts(connection, root.id, external_ref=account, limit=1)
    return below[0] if below else None


def unknown(name: str, account: str) -> str:
    """Says that there is no such account."""
    return f"The certificate {name!r} stands for the account {account!r} (client_certificates), and there is none."
