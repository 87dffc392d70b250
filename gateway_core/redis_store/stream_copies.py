"""Copies of streams in a Redis or Valkey server: entries that their owner adds, and what readers ask of the owner.

All keys are of one slot of a cluster, and expire. What is in entries is sealed before it comes here.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import SecretStr

from gateway_core.redis_store.link import FAILURES, Away, Link
from gateway_core.redis_store.script import SINCE
from gateway_core.storage.steady import whole

PREFIX = "headgate:{streams}:"
OWNER_MS = 4_000
"""So long after its last word a process that runs streams counts as dead."""
ASKS_MS = 60_000
ASKS_AT_MOST = 10_000
BLOCK_SECONDS = 0.5
ENTRIES_AT_ONCE = 16
FIELD = b"d"

APPEND = """
-- KEYS: head, entries. ARGV: what it was counted to before (empty: it begins anew), to now, milliseconds, the first
-- entry that stays (empty: all), how many fields of the head follow; these, names and values; then ids and entries.
local before = ARGV[1]
if before == '' then
  redis.call('HSET', KEYS[1], 'count', ARGV[2])
  redis.call('DEL', KEYS[2])
elseif redis.call('HGET', KEYS[1], 'count') ~= before then
  return 0
end
local index = 6
for _ = 1, tonumber(ARGV[5]) do
  redis.call('HSET', KEYS[1], ARGV[index], ARGV[index + 1])
  index = index + 2
end
redis.call('HSET', KEYS[1], 'count', ARGV[2])
while index < #ARGV do
  redis.call('XADD', KEYS[2], ARGV[index], 'd', ARGV[index + 1])
  index = index + 2
end
if ARGV[4] ~= '' then
  redis.call('XTRIM', KEYS[2], 'MINID', ARGV[4])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
"""
"""Answers 0 where the server does not have what was added before: it has forgotten it, or taken it twice.

A server without memory refuses a script its first command that wants some, and nothing once it has written: so none
that frees some comes before. A copy that begins anew has all fields of a head, so that none is left of the one before.
"""


class Addition(NamedTuple):
    """What an owner adds to the copy of one stream."""

    key: str
    before: str
    """What the copy was counted to. Empty: it begins anew."""
    counted: str
    keep_seconds: float
    first: str
    """The id of the first entry that stays. Empty: all do."""
    head: Mapping[str, bytes]
    entries: Sequence[tuple[str, bytes]]
    """Ids, which rise, and what they hold."""

    def arguments(self) -> list[Any]:
        """As the script takes them."""
        fields = [each for pair in self.head.items() for each in pair]
        entries = [each for pair in self.entries for each in pair]
        ms = round(1000 * self.keep_seconds)
        return [self.before, self.counted, ms, self.first, len(self.head), *fields, *entries]


class Ask(NamedTuple):
    """What a reader has to say to the owner of a stream."""

    owner: str
    key: str
    sealed: bytes


class Read(NamedTuple):
    """What came of reading: entries by the key of a stream, each with its id, and what others ask of this process."""

    entries: Mapping[str, Sequence[tuple[str, bytes]]]
    asks: Sequence[tuple[str, bytes]]
    """Keys of streams, and what is asked, sealed."""


def head_key(key: str) -> str:
    """A hash: what is known of a stream beside its entries."""
    return f"{PREFIX}head:{key}"


def entries_key(key: str) -> str:
    """A stream of Redis: the entries of one of ours."""
    return f"{PREFIX}entries:{key}"


def owner_key(owner: str) -> str:
    """There for as long as a process is."""
    return f"{PREFIX}owner:{owner}"


def asks_key(owner: str) -> str:
    """A stream of Redis: what is asked of a process."""
    return f"{PREFIX}asks:{owner}"


class CopyStore:
    """Belongs to one event loop; all methods raise Away, and none takes longer than seconds."""

    def __init__(self, url: SecretStr) -> None:
        """Takes where the server is; raises CannotOpen where that is no such URL."""
        self.link = Link(url, "streams")
        # Its answers are waited for, so that it is another connection.
        self.reading = Link(url, "reading streams", 1.0 + BLOCK_SECONDS)
        self._append = self.link.client.register_script(APPEND)

    async def add(self, additions: Sequence[Addition]) -> list[bool]:
        """Adds to copies; of each whether the server had what was there before."""
        async with self.link.client.pipeline(transaction=False) as pipeline:
            for each in additions:
                await self._append([head_key(each.key), entries_key(each.key)], each.arguments(), pipeline)
            return [bool(done) for done in await self._answered(self.link, pipeline.execute())]

    async def beat(self, owner: str) -> bool:
        """Says that this process is there; whether the server knew."""
        before = await self._answered(self.link, self.link.client.set(owner_key(owner), b"1", px=OWNER_MS, get=True))
        return before is not None

    async def alive(self, owners: Sequence[str]) -> dict[str, bool]:
        """Whether processes are there."""
        found = await self._answered(self.link, self.link.client.mget([owner_key(owner) for owner in owners]))
        return {owner: value is not None for owner, value in zip(owners, found, strict=True)}

    async def forget(self, keys: Sequence[str]) -> None:
        """Deletes copies."""
        names = [name for key in keys for name in (head_key(key), entries_key(key))]
        await self._answered(self.link, self.link.client.delete(*names))

    async def head(self, key: str) -> dict[bytes, bytes]:
        """What is known of a stream beside its entries. Empty: there is no such copy."""
        found: dict[bytes, bytes] = await self._answered(self.link, self.link.client.hgetall(head_key(key)))
        return found

    async def has_forgotten(self, within_seconds: float) -> bool:
        """Whether the server has forgotten everything so lately, as far as those know who take leases there."""
        since = await self._answered(self.link, self.link.client.get(SINCE))
        seconds, _ = await self._answered(self.link, self.link.client.time())
        return since is None or seconds - int(since) / 1000 < within_seconds

    async def ask(self, asks: Sequence[Ask]) -> None:
        """Asks owners of streams."""
        async with self.link.client.pipeline(transaction=False) as pipeline:
            for each in asks:
                name = asks_key(each.owner)
                fields: Any = {b"k": each.key.encode(), FIELD: each.sealed}
                pipeline.xadd(name, fields, maxlen=ASKS_AT_MOST, approximate=True)
                pipeline.pexpire(name, ASKS_MS)
            await self._answered(self.link, pipeline.execute())

    async def wake(self, owner: str) -> None:
        """Ends a `read` of this process that waits."""
        await self.ask([Ask(owner, "", b"")])

    async def read(self, owner: str, asked_from: str, positions: Mapping[str, str]) -> tuple[Read, str]:
        """What came behind the places in streams, by key, and what was asked; waits for it, half a second at most.

        The second is from where to read next what is asked.
        """
        names: Any = {asks_key(owner): asked_from}
        names.update({entries_key(key): place for key, place in positions.items()})
        block = round(1000 * BLOCK_SECONDS)
        client = self.reading.client
        found: Any = await self._answered(self.reading, client.xread(names, count=ENTRIES_AT_ONCE, block=block)) or ()
        entries: dict[str, Sequence[tuple[str, bytes]]] = {}
        asks: list[tuple[str, bytes]] = []
        for name, rows in found:
            kept = [(identity.decode(), fields) for identity, fields in rows if fields]
            if name.decode() == asks_key(owner):
                asks = [(fields.get(b"k", b"").decode(), fields.get(FIELD, b"")) for _, fields in kept]
                asked_from = kept[-1][0] if kept else asked_from
            else:
                key = name.decode().removeprefix(entries_key(""))
                entries[key] = [(identity, fields.get(FIELD, b"")) for identity, fields in kept]
        return Read(entries, asks), asked_from

    async def end(self, owner: str) -> None:
        """Says that this process is there no longer."""
        await self._answered(self.link, self.link.client.delete(owner_key(owner), asks_key(owner)))

    async def close(self) -> None:
        """Disconnects."""
        await self.link.close()
        await self.reading.close()

    async def _answered(self, link: Link, work: Any) -> Any:
        try:
            found = await whole(work)
        except FAILURES as error:
            await link.lose(error)
            raise Away from None
        link.found()
        return found
