"""All gateways in memory, by the names that a call can give: no call waits for the database."""

import asyncio
import contextlib

import structlog

from gateway_core.catalog.gateway import Version
from gateway_core.storage import gateway as rows
from gateway_core.storage.changes import Change
from gateway_core.storage.database import Database
from gateway_core.storage.errors import StorageError

log = structlog.get_logger("headgate.catalog")

AGAIN_SECONDS = 0.5
"""After which what could not be read is read again."""


class GatewayCache:
    """The current versions. What another process changed is read again as soon as it is told."""

    def __init__(self) -> None:
        """Holds nothing."""
        self._by_name: dict[str, dict[str, Version]] = {}
        """By id or slug, and by account."""
        self._by_id: dict[str, Version] = {}
        self._by_account: dict[str, dict[str, Version]] = {}
        """By account, and by id."""
        self._gone: set[str] = set()
        """Ids of what was deleted: a reading that began before must not bring it back."""
        self._dirty: dict[str | None, None] = {}
        self._told = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._leave = contextlib.ExitStack()

    def find(self, account_id: str, name: str) -> Version | None:
        """The gateway of an account that has an id or a slug. None: there is none."""
        found = self._by_name.get(name)
        return None if found is None else found.get(account_id)

    def of_account(self, account_id: str) -> list[Version]:
        """The gateways of an account, the newest first."""
        found = self._by_account.get(account_id, {})
        return [found[gateway_id] for gateway_id in sorted(found, reverse=True)]

    def put(self, version: Version) -> None:
        """Takes a version, unless a newer one is there or the gateway is gone."""
        known = self._by_id.get(version.use.id)
        if version.use.id in self._gone or (known is not None and known.use.version > version.use.version):
            return
        self._forget(known)
        self._by_id[version.use.id] = version
        self._by_account.setdefault(version.account_id, {})[version.use.id] = version
        for name in (version.use.id, version.use.slug):
            self._by_name.setdefault(name, {})[version.account_id] = version

    def drop(self, gateway_id: str) -> None:
        """Forgets a gateway for good."""
        self._gone.add(gateway_id)
        self._forget(self._by_id.pop(gateway_id, None))

    async def start(self, database: Database) -> None:
        """Reads everything, and begins to learn what changes. Raises StorageError."""
        self._leave.callback(database.changes.subscribe(rows.TOPIC, self._hear))
        await self._read(database, None)
        self._task = asyncio.create_task(self._keep(database), name="gateways")

    async def close(self) -> None:
        """Ends learning."""
        self._leave.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _hear(self, change: Change) -> None:
        self._dirty[change.key] = None
        self._told.set()

    def _forget(self, version: Version | None) -> None:
        if version is None:
            return
        of_account = self._by_account[version.account_id]
        of_account.pop(version.use.id, None)
        if not of_account:
            del self._by_account[version.account_id]
        for name in (version.use.id, version.use.slug):
            named = self._by_name.get(name, {})
            if named.get(version.account_id) is version:
                del named[version.account_id]
            if not named:
                self._by_name.pop(name, None)

    async def _keep(self, database: Database) -> None:
        while True:
            await self._told.wait()
            self._told.clear()
            while self._dirty:
                key = next(iter(self._dirty))
                del self._dirty[key]
                try:
                    await self._read(database, key)
                except StorageError as error:
                    log.warning("gateways_not_read", message=str(error))
                    self._dirty[key] = None
                    await asyncio.sleep(AGAIN_SECONDS)

    async def _read(self, database: Database, gateway_id: str | None) -> None:
        before = set(self._by_id)  # what comes while this reads may not be in what is read
        async with database.reading() as connection:
            if gateway_id is None:
                found = list(await rows.everything(connection))
            else:
                row = await rows.current(connection, gateway_id)
                found = [] if row is None else [row]
        for each in found:
            self.put(Version.of(each))
        asked = before if gateway_id is None else {gateway_id}
        for missing in asked - {each.id for each in found}:
            self.drop(missing)
