"""What the Redis server does in one step: two scripts in Lua, whose keys are of one slot of a cluster.

Numbers are doubles in Lua: exact to 2^53, and written whole, never as 1e+15.
"""

PREFIX = "headgate:{limits}:"
PROCESSES = f"{PREFIX}processes"
"""A sorted set of processes by when they last said that they are there: milliseconds by the server's clock."""
SINCE = f"{PREFIX}since"
"""Since when, by the server's clock, nothing has been forgotten."""


def window_key(scope: str, window_start_us: int) -> str:
    """A hash: what each holder has of a window, and under ALL what they have together."""
    return f"{PREFIX}window:{scope}:{window_start_us}"


ALL = "all"

TAKE = """
-- KEYS: a window, the processes. ARGV: process, when it was last told to be there, holder, what it has, what it wants,
-- the limit, milliseconds until the window may be forgotten. What the holder says that it has is what it has.
local seen = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not seen or tonumber(seen) < tonumber(ARGV[2]) then
  return {-1, 0}
end
local held, wanted, limit = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local before = tonumber(redis.call('HGET', KEYS[1], ARGV[3]) or '0')
local of_all = tonumber(redis.call('HGET', KEYS[1], 'all') or '0') - before + held
local got = math.max(0, math.min(wanted, limit - of_all))
redis.call('HSET', KEYS[1], ARGV[3], string.format('%.0f', held + got), 'all', string.format('%.0f', of_all + got))
redis.call('PEXPIRE', KEYS[1], ARGV[7])
return {got, of_all + got}
"""
"""Answers what is got and what all have; -1 where the server has forgotten the process, and so perhaps the window."""

APPEAR = """
-- KEYS: the processes, since when nothing was forgotten. ARGV: process, when it was last told to be there or nothing,
-- milliseconds after which a process no longer counts, and after which it is forgotten.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local before = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or '-1')
local forgot = 0
if ARGV[2] ~= '' and before < tonumber(ARGV[2]) then
  forgot = 1
end
if forgot == 1 or redis.call('EXISTS', KEYS[2]) == 0 then
  redis.call('SET', KEYS[2], string.format('%.0f', now))
end
local seen = math.max(now, before)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[4]))
redis.call('ZADD', KEYS[1], string.format('%.0f', seen), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
local count = redis.call('ZCOUNT', KEYS[1], string.format('%.0f', now - ARGV[3]), '+inf')
return {forgot, math.max(0, now - tonumber(redis.call('GET', KEYS[2]))), count, seen}
"""
"""Answers whether the process was forgotten, for how long nothing was, how many there are, and when it was told."""
