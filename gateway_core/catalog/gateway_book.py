"""The gateways of accounts: made, changed, deleted, listed."""

import base64
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from headgate.v1.gateway_pb2 import Gateway

from gateway_core.call import Caller
from gateway_core.catalog.gateway import Version, masked, secret_place, slugs, stored
from gateway_core.catalog.gateway_cache import GatewayCache
from gateway_core.catalog.gateway_change import changed
from gateway_core.errors import InvalidRequest, NotFound
from gateway_core.storage import gateway as rows
from gateway_core.storage.errors import Conflict
from gateway_core.storage.gateway import GatewayRow
from gateway_core.storage.identifier import new_id, now_us
from gateway_core.storage.store import Store

PAGE_SIZE = 100
PAGE_SIZE_AT_MOST = 1000
ATTEMPTS = 3
"""Two processes may choose one slug at the same moment: who comes second chooses again."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a gateway must be, as the models and the network of this installation have it."""

    check: Callable[[Gateway], None]
    """Raises InvalidRequest, which names the field."""
    is_hosted: Callable[[str], bool]
    """Whether a name is that of a hosted model, which no slug may be."""
    use_of: Callable[[Caller], Awaitable[Callable[[Gateway], None]]]
    """What raises ModelNotAllowed where a caller may not ask what stands behind a gateway, by its own name.

    A key may be allowed a gateway and no model: were it to say what stands behind, it could ask everything.
    """


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the gateways of an account."""

    gateways: Sequence[Gateway]
    next_token: str
    """Empty: there are no more."""


class GatewayBook:
    """Keeps gateways, each under its account; for another account they are not there."""

    def __init__(self, store: Store, cache: GatewayCache, rules: Rules) -> None:
        """Takes where they are kept, and what knows them for the calls."""
        self._store = store
        self._cache = cache
        self._rules = rules

    async def create(self, caller: Caller, gateway: Gateway) -> Gateway:
        """Makes a gateway. Raises InvalidRequest, which names the field, and ModelNotAllowed."""
        made = Gateway()
        made.CopyFrom(gateway)
        self._rules.check(made)
        (await self._rules.use_of(caller))(made)
        gateway_id = new_id()
        secret = self._secret(made, None, gateway_id)
        return await attempted(lambda: self._add(caller, made, secret, gateway_id))

    async def get(self, caller: Caller, name: str) -> Gateway:
        """The gateway of an id or a slug; raises NotFound."""
        async with self._store.database.reading() as connection:
            row = await rows.find(connection, caller.account_id, name)
        return Version.of(there(row, name)).message

    async def page(self, caller: Caller, size: int, token: str, name_contains: str) -> Page:
        """A page of the gateways, the newest first; a size of 0 is the usual one. Raises InvalidRequest."""
        if not 0 <= size <= PAGE_SIZE_AT_MOST:
            raise InvalidRequest(f"page_size must be between 1 and {PAGE_SIZE_AT_MOST}.", param="page_size")
        size = size or PAGE_SIZE
        after = cursor(token)
        account_id = caller.account_id
        async with self._store.database.reading() as connection:
            found = await rows.page(connection, account_id, size=size + 1, after=after, name_contains=name_contains)
        shown = found[:size]
        next_token = token_after(shown[-1]) if len(found) > size else ""
        return Page([Version.of(row).message for row in shown], next_token)

    async def update(self, caller: Caller, gateway: Gateway, paths: Sequence[str] | None) -> Gateway:
        """Changes the fields at the paths (None: those that are set).

        Raises NotFound, InvalidRequest, and ModelNotAllowed for another model.
        """
        check_use = await self._rules.use_of(caller)
        return await attempted(lambda: self._change(caller, gateway, paths, check_use))

    async def delete(self, caller: Caller, name: str) -> None:
        """Deletes a gateway; raises NotFound."""
        database = self._store.database
        async with database.transaction() as connection:
            row = there(await rows.locked(connection, caller.account_id, name), name)
            await rows.delete(connection, row.id, now_us())
            await database.changes.publish(connection, rows.TOPIC, row.id)
        self._cache.drop(row.id)

    async def _add(self, caller: Caller, made: Gateway, secret: bytes | None, gateway_id: str) -> Gateway:
        database, account_id, now = self._store.database, caller.account_id, now_us()
        async with database.transaction() as connection:
            possible = slugs(made.name, gateway_id)
            slug = self._slug(possible, await rows.taken(connection, account_id, possible, gateway_id))
            row = GatewayRow(gateway_id, account_id, made.name, slug, 1, now, now, stored(made), secret)
            await rows.add(connection, row, caller.key_id or None)
            await database.changes.publish(connection, rows.TOPIC, gateway_id)
        return self._known(row)

    async def _change(
        self, caller: Caller, gateway: Gateway, paths: Sequence[str] | None, check_use: Callable[[Gateway], None]
    ) -> Gateway:
        database, account_id = self._store.database, caller.account_id
        async with database.transaction() as connection:
            old = there(await rows.locked(connection, account_id, gateway.id), gateway.id)
            before = Version.of(old).message
            new = changed(before, gateway, paths)
            self._rules.check(new)
            if (new.model, new.endpoint) != (before.model, before.endpoint):
                check_use(new)
            secret = self._secret(new, old, old.id)
            message = stored(new)
            if message == old.message and secret == old.secret:
                return before
            slug = old.slug
            if new.name != old.name:
                possible = slugs(new.name, old.id)
                slug = self._slug(possible, await rows.taken(connection, account_id, possible, old.id))
            later = max(now_us(), old.updated_us + 1)
            row = GatewayRow(
                old.id, account_id, new.name, slug, old.version + 1, old.created_us, later, message, secret
            )
            await rows.change(connection, row, caller.key_id or None)
            await database.changes.publish(connection, rows.TOPIC, old.id)
        return self._known(row)

    def _known(self, row: GatewayRow) -> Gateway:
        version = Version.of(row)
        self._cache.put(version)
        return version.message

    def _slug(self, possible: Sequence[str], taken: frozenset[str]) -> str:
        free = (slug for slug in possible if slug not in taken and not self._rules.is_hosted(slug))
        return next(free, possible[-1])

    def _secret(self, new: Gateway, old: GatewayRow | None, gateway_id: str) -> bytes | None:
        """The sealed key of a gateway's endpoint; takes the key itself out of the message, and leaves the mask of it.

        The key that is there stays, but for a new address: whoever may change a gateway may not read its key, and
        would, were it sent elsewhere.
        """
        if not new.HasField("endpoint"):
            return None
        endpoint = new.endpoint
        endpoint.ClearField("masked_api_key")
        if endpoint.HasField("api_key"):
            key = endpoint.api_key
            endpoint.ClearField("api_key")
            if not key:
                return None
            endpoint.masked_api_key = masked(key)
            return self._store.box.seal(key, secret_place(gateway_id, endpoint.base_url))
        if old is None or old.secret is None:
            return None
        before = Version.of(old).message.endpoint
        if before.base_url != endpoint.base_url:
            return None
        endpoint.masked_api_key = before.masked_api_key
        return old.secret


async def attempted(attempt: Callable[[], Awaitable[Gateway]]) -> Gateway:
    """What an attempt gives that did not meet another one's row."""
    for _ in range(ATTEMPTS - 1):
        try:
            return await attempt()
        except Conflict:
            continue
    return await attempt()


def there(row: GatewayRow | None, name: str) -> GatewayRow:
    """The row; raises NotFound where there is none."""
    if row is None:
        raise NotFound(f"There is no gateway {name[:200]!r}.", resource="gateway", id=name[:200])
    return row


def token_after(row: GatewayRow) -> str:
    """The token of the page that begins after a row."""
    return base64.urlsafe_b64encode(f"{row.created_us}:{row.id}".encode()).decode().rstrip("=")


def cursor(token: str) -> tuple[int, str] | None:
    """Creation time and id of the row after which a page begins. None: it is the first. Raises InvalidRequest."""
    if not token:
        return None
    try:
        time, colon, gateway_id = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode().partition(":")
        created_us = int(time)
    except ValueError:
        colon = ""
    if not colon or not 0 <= created_us < 1 << 63 or not 0 < len(gateway_id) <= 36 or not gateway_id.isascii():
        raise InvalidRequest("page_token is none that a page before gave.", param="page_token")
    return created_us, gateway_id
