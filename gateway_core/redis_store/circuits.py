"""Circuits of which processes tell each other by a Redis or Valkey server: a script says and hears all there is."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self

from pydantic import SecretStr

from gateway_core.redis_store.link import FAILURES, Away, Link
from gateway_core.storage.steady import whole

PREFIX = "headgate:{circuits}:"
COUNTS_MS = 5_000
KEPT_MS = 120_000
TIME = re.compile(r"[0-9]{1,15}")
LIMIT = 10_000
"""Votes, at most: more are of processes that name others' targets, and are not taken."""

SHARE = """
-- KEYS: votes, well, processes. ARGV: process, milliseconds after which one no longer counts, and after which all is
-- forgotten, most votes; then for each statement: what, target, milliseconds, reason.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function number(value) return string.format('%.0f', value) end
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', number(now - ARGV[2]))
redis.call('ZADD', KEYS[3], number(now), ARGV[1])
local votes = {}
for index, value in ipairs(redis.call('HGETALL', KEYS[1])) do
  if index % 2 == 1 then votes[#votes + 1] = {value} else votes[#votes][2] = value end
end
local kept = {}
for _, vote in ipairs(votes) do
  local till = tonumber(string.match(vote[2], '^%d+|(%d+)|')) or 0
  if till + 30000 < now then redis.call('HDEL', KEYS[1], vote[1]) else kept[#kept + 1] = vote end
end
for index = 5, #ARGV, 4 do
  local what, target, ms, reason = ARGV[index], ARGV[index + 1], ARGV[index + 2], ARGV[index + 3]
  if what == 'well' then
    redis.call('HSET', KEYS[2], target, number(now))
    for _, vote in ipairs(kept) do
      local kind, of = string.match(vote[1], '^(%a+)|[^|]*|(.*)$')
      if kind == 'circuit' and of == target then redis.call('HDEL', KEYS[1], vote[1]) end
    end
  elseif #kept < tonumber(ARGV[4]) then
    local name = (what == 'rest' and what or 'circuit') .. '|' .. ARGV[1] .. '|' .. target
    redis.call('HSET', KEYS[1], name, table.concat({number(now), number(now + ms), what, reason}, '|'))
  end
end
for index, value in ipairs(redis.call('HGETALL', KEYS[2])) do
  if index % 2 == 1 then votes.target = value
  elseif (tonumber(value) or 0) + ARGV[3] < now then redis.call('HDEL', KEYS[2], votes.target) end
end
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[3]) end
return {now, redis.call('ZCARD', KEYS[3]), redis.call('HGETALL', KEYS[1]), redis.call('HGETALL', KEYS[2])}
"""

What = Literal["open", "own", "rest", "well"]
"""A circuit that opened for what the target said; for what only this process may have met; a rest; a success."""


class Statement(NamedTuple):
    """What a process has to say of a target."""

    what: What
    target: str
    """"provider/model"."""
    seconds: float = 0.0
    """From now on, that it holds."""
    reason: str = ""


class Vote(NamedTuple):
    """What a process has said of a target; times by the server's clock, in milliseconds."""

    what: str
    process: str
    target: str
    since_ms: int
    until_ms: int
    reason: str


class Heard(NamedTuple):
    """What all processes have said."""

    now_ms: int
    processes: int
    """How many there are, this one included."""
    votes: Sequence[Vote]
    well: Mapping[str, int]
    """When a call that tried a target went well last, in milliseconds."""


class Keys(NamedTuple):
    """Where a deployment has what its processes say: another one may call other hosts by the same names."""

    votes: str
    """A hash: what each process says of a target, by "circuit|PROCESS|TARGET" and "rest|PROCESS|TARGET"."""
    well: str
    """A hash: when, by the server's clock, a call that tried a target went well, by target."""
    processes: str
    """A sorted set of processes by when they last asked."""

    @classmethod
    def of(cls, deployment: str) -> Self:
        """Those of a deployment, which is known by its operator's account: all are of one slot of a cluster."""
        return cls(*(f"{PREFIX}{deployment}:{name}" for name in cls._fields))


class CircuitStore:
    """What processes say of targets. Belongs to one event loop; all methods raise Away."""

    def __init__(self, url: SecretStr, process_id: str, deployment: Callable[[], Awaitable[str]]) -> None:
        """Takes where the server is, the process's name, and what finds out whose process it is, or raises Away.

        Raises CannotOpen where that is no such URL.
        """
        self.link = Link(url, "circuits")
        self._process_id = process_id
        self._deployment = deployment
        self._keys: Keys | None = None
        self._share = self.link.client.register_script(SHARE)

    async def share(self, statements: Sequence[Statement]) -> Heard:
        """Says something, or nothing, and hears what all say, in one round trip."""
        args: list[str | int] = [self._process_id, COUNTS_MS, KEPT_MS, LIMIT]
        for each in statements:
            args += [each.what, each.target, round(1000 * each.seconds), each.reason]
        keys = self._keys = self._keys or Keys.of(await self._deployment())
        try:
            now_ms, processes, votes, well = await whole(self._share(list(keys), args))
        except FAILURES as error:
            await self.link.lose(error)
            raise Away from None
        self.link.found()
        found = [vote for name, value in pairs(votes) if (vote := vote_of(name, value)) is not None]
        return Heard(now_ms, processes, found, {target: int(at) for target, at in pairs(well) if TIME.fullmatch(at)})

    async def leave(self) -> None:
        """Is no longer one of the processes."""
        if self._keys is None:
            return
        try:
            await whole(self.link.client.zrem(self._keys.processes, self._process_id))
        except FAILURES:
            return

    async def close(self) -> None:
        """Disconnects."""
        await self.link.close()


def pairs(flat: Sequence[Any]) -> list[tuple[str, str]]:
    """The names and values of a hash, as scripts answer them."""
    texts = [each.decode(errors="replace") if isinstance(each, bytes) else str(each) for each in flat]
    return list(zip(texts[::2], texts[1::2], strict=True))


def vote_of(name: str, value: str) -> Vote | None:
    """A vote. None: it is none that this version knows."""
    of, said = name.split("|", 2), value.split("|", 3)
    if len(of) != 3 or len(said) != 4 or not (TIME.fullmatch(said[0]) and TIME.fullmatch(said[1])):
        return None
    return Vote(said[2], of[1], of[2], int(said[0]), int(said[1]), said[3])
