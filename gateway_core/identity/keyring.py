"""Who calls with a key: remembered in memory, so that a call that is known costs no wait."""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from hmac import compare_digest
from time import time_ns
from typing import Any, NoReturn, Protocol

import structlog

from gateway_core.call import Caller
from gateway_core.errors import KeyExpired, Unauthenticated
from gateway_core.identity.caller import caller_of
from gateway_core.identity.certificate_caller import CertificateCallers
from gateway_core.identity.credential import LOOKUP_LENGTH, PREFIX_LENGTH, Credential, carried, credential_of, digest
from gateway_core.storage import account as accounts
from gateway_core.storage import key as keys
from gateway_core.storage.changes import Change
from gateway_core.storage.database import Database
from gateway_core.storage.errors import StorageError

log = structlog.get_logger("headgate.identity")

BEARER = "Bearer "
SCHEME = slice(len(BEARER))
SECRET = slice(len(BEARER), None)
LOOKUP = slice(len(BEARER) + PREFIX_LENGTH, len(BEARER) + PREFIX_LENGTH + LOOKUP_LENGTH)
NEVER = 1 << 63
MINUTE_US = 60_000_000
FLUSH_SECONDS = 5.0
REMEMBERED_AT_MOST = 100_000
UNKNOWN_AT_MOST = 100_000

MISSING = "A key is needed: send it as Authorization: Bearer sk-hg-…"
UNMAPPED = " (the certificate {!r} stands for no account: client_certificates.accounts)"
WRONG = "The key is unknown or has been deleted."
EXPIRED = "The key has expired."


class Identities(Protocol):
    """Tells who calls."""

    def remembered(self, authorization: str | None) -> Caller | None:
        """Who calls with a value of `authorization`, where that is known without waiting."""
        ...

    async def caller(self, authorization: str | None, certificate: str = "") -> Caller:
        """Who calls, by a key or else by the certificate of this name; raises Unauthenticated, KeyExpired."""
        ...


class Everybody:
    """Where nothing is kept there are no accounts: everybody is the operator."""

    CALLER = Caller(is_root=True)

    def remembered(self, authorization: str | None) -> Caller:
        """The operator."""
        return self.CALLER

    async def caller(self, authorization: str | None, certificate: str = "") -> Caller:
        """The operator."""
        return self.CALLER


@dataclass(slots=True, eq=False)
class Entry:
    """What is remembered of a secret."""

    hash: bytes
    caller: Caller
    expires_us: int
    is_new: bool
    """Whether its first use ends the secret that it replaces."""
    noted_us: int = 0
    """When its use was last noted."""


class Keyring:
    """The keys of a database. Belongs to one event loop, between `open` and `close`."""

    def __init__(self, database: Database, *, optional: bool, certificates: Mapping[str, str] | None = None) -> None:
        """Takes whether who brings no key is the operator, and the accounts of certificates by their names."""
        self._database = database
        self._certificates = CertificateCallers(database, certificates) if certificates else None
        self._optional = optional
        self._entries: dict[str, Entry] = {}
        self._unknown: dict[str, None] = {}
        self._keyless: Caller | None = None
        self._loading: dict[str, asyncio.Task[Entry | None]] = {}
        self._used: dict[str, int] = {}
        self._changes = 0
        self._stack = contextlib.ExitStack()
        self._flushing: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begins to learn of changes."""
        for topic, forget in ((keys.TOPIC, self._forget_key), (accounts.TOPIC, self._forget_account)):
            self._stack.callback(self._database.changes.subscribe(topic, forget))
        if self._certificates is not None:
            self._certificates.open()
            self._stack.callback(self._certificates.close)
        self._flushing = asyncio.create_task(self._flush_often(), name="noting the use of keys")

    async def tell_unknown_accounts(self) -> None:
        """Tells in the log which accounts of certificates there are not, or not yet."""
        if self._certificates is not None:
            await self._certificates.tell_unknown()

    async def close(self) -> None:
        """Writes which keys were used, and ends."""
        self._stack.close()
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.wait({self._flushing})
            await self.flush()

    def remembered(self, authorization: str | None) -> Caller | None:
        """Who calls with a value of `authorization`, where that is known without waiting and nothing is to be told."""
        if not authorization:
            return self._keyless
        entry = self._entries.get(authorization[LOOKUP])
        if entry is None or authorization[SCHEME] != BEARER:
            return None
        if not compare_digest(digest(authorization[SECRET]), entry.hash):
            return None
        now_us = time_ns() // 1000
        if entry.is_new or now_us >= entry.expires_us:
            return None
        if now_us >= entry.noted_us:
            self._note(entry, now_us)
        return entry.caller

    async def caller(self, authorization: str | None, certificate: str = "") -> Caller:
        """Who calls, by a key or else by the certificate of this name; raises Unauthenticated, KeyExpired."""
        secret = carried(authorization) if authorization else ""
        credential = credential_of(secret)
        if credential is None:
            return await self._without_key(secret, certificate)
        entry = await self._entry(credential.lookup)
        if entry is None or not matches(credential, entry):
            refuse(WRONG)
        now_us = time_ns() // 1000
        if now_us >= entry.expires_us:
            raise KeyExpired(EXPIRED)
        if entry.is_new:
            await self._retire_replaced(entry)
        if now_us >= entry.noted_us:
            self._note(entry, now_us)
        return entry.caller

    async def _without_key(self, secret: str, certificate: str) -> Caller:
        """Who calls with something that has not the form of a key, or with nothing."""
        # SDKs send something in any case: where no key is needed, that is none.
        known = None
        if certificate and self._certificates is not None and (self._optional or not secret):
            known = await self._certificates.caller(certificate)
        if known is None and not self._optional:
            refuse(WRONG if secret else f"{MISSING}{UNMAPPED.format(certificate[:200])}" if certificate else MISSING)
        return known or await self._operator()

    async def flush(self) -> None:
        """Writes which keys were used."""
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await self._database.run(partial(keys.note_used, used=used))
        except StorageError as error:
            self._used = {**used, **self._used}
            if self._database.changes.outage.tells("use_of_keys_not_noted"):
                log.warning("use_of_keys_not_noted", message=str(error))

    async def _flush_often(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    def _note(self, entry: Entry, now_us: int) -> None:
        entry.noted_us = now_us + MINUTE_US
        self._used[entry.caller.key_id] = now_us

    async def _operator(self) -> Caller:
        if self._keyless is None:
            changes = self._changes
            async with self._database.reading() as connection:
                root = await accounts.root_account(connection)
            assert root is not None, "the root account is made before anybody calls"
            caller = caller_of(root, None, () if root.allowed_models is None else (root.allowed_models,))
            if changes != self._changes:
                return caller
            self._keyless = caller
        return self._keyless

    async def _entry(self, lookup: str) -> Entry | None:
        entry = self._entries.get(lookup)
        if entry is not None or lookup in self._unknown:
            return entry
        loading = self._loading.get(lookup)
        if loading is None:
            loading = self._loading[lookup] = asyncio.create_task(self._load(lookup), name="looking a key up")
            loading.add_done_callback(partial(self._loaded, lookup))
        # Whoever leaves must not end it for the others.
        return await asyncio.shield(loading)

    def _loaded(self, lookup: str, loading: asyncio.Task[Entry | None]) -> None:
        del self._loading[lookup]
        if not loading.cancelled():
            loading.exception()  # seen, even where all who waited have left

    async def _load(self, lookup: str) -> Entry | None:
        while True:
            changes = self._changes
            async with self._database.reading() as connection:
                found = await keys.found(connection, lookup)
            # What changed meanwhile may be what was read.
            if changes == self._changes:
                break
        if found is None:
            remember(self._unknown, lookup, None, UNKNOWN_AT_MOST)
            return None
        expires_us = NEVER if found.key.expires_us is None else found.key.expires_us
        entry = Entry(found.hash, caller_of(found.account, found.key, found.allowed_models), expires_us, found.is_new)
        remember(self._entries, lookup, entry, REMEMBERED_AT_MOST)
        return entry

    async def _retire_replaced(self, entry: Entry) -> None:
        key_id = entry.caller.key_id
        if self._database.changes.outage.is_on:
            return  # it is retired with a call after that
        async with self._database.transaction() as connection:
            await keys.retire_replaced(connection, key_id)
            await self._database.changes.publish(connection, keys.TOPIC, key_id)

    def _forget_key(self, change: Change) -> None:
        self._forget({lookup for lookup, entry in self._entries.items() if change.key in (None, entry.caller.key_id)})

    def _forget_account(self, change: Change) -> None:
        # What an account may do holds for those below it too.
        self._forget(set(self._entries))
        self._keyless = None

    def _forget(self, lookups: set[str]) -> None:
        self._changes += 1
        self._unknown.clear()
        for lookup in lookups:
            del self._entries[lookup]


def refuse(message: str) -> NoReturn:
    """Raises Unauthenticated."""
    raise Unauthenticated(message)


def matches(credential: Credential, entry: Entry) -> bool:
    """Whether a key is the one that is remembered; takes as long for every wrong one."""
    return compare_digest(credential.hash, entry.hash)


def remember(memory: dict[str, Any], key: str, value: Any, at_most: int) -> None:
    """Adds to a memory, which forgets the oldest beyond so many."""
    while len(memory) >= at_most:
        del memory[next(iter(memory))]
    memory[key] = value
