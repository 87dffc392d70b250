"""The check of `headgate doctor` that asks the server in which processes share limits."""

from pydantic import SecretStr

from gateway_core.redis_store.condition import condition
from gateway_core.storage.errors import CannotOpen
from headgate_cli.checks import Check

KEEP_ALL = "set its maxmemory-policy to noeviction: with what is evicted, processes use more than the limits"


async def limits_check(url: SecretStr) -> Check:
    """Whether it answers, and keeps what it is told."""
    try:
        found = await condition(url)
    except CannotOpen as error:
        return Check("wrong", "limits", str(error), "until it answers, each process uses a part of the limits alone")
    text = f"{found.server} answers: {found.version or 'it may not be asked what it is'}"
    if found.evicts:
        return Check("note", "limits", f"{text}, which evicts ({found.evicts})", KEEP_ALL)
    return Check("ok", "limits", text)
