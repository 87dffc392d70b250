"""What is worth telling the operator of a Redis server before it is used."""

from typing import NamedTuple

from pydantic import SecretStr
from redis.exceptions import NoPermissionError, RedisError

from gateway_core.redis_store.server import RedisServer
from gateway_core.storage.errors import CannotOpen

SECONDS = 5.0
KEEPS_ALL = "noeviction"


class Condition(NamedTuple):
    """Of a server that answers."""

    server: str
    """Where it is, without the password."""
    version: str
    """Empty: it may not be asked."""
    evicts: str
    """Its maxmemory-policy, where it may throw away what is in use. Empty: it throws nothing away, or does not say."""


async def condition(url: SecretStr) -> Condition:
    """Asks the server; raises CannotOpen, which names the key of the configuration."""
    server = RedisServer.at(url)
    client = server.client(SECONDS, SECONDS)
    try:
        await client.ping()
        told = await client.info()
    except NoPermissionError:
        return Condition(str(server), "", "")
    except RedisError as error:
        raise CannotOpen(server.told(error)) from None
    finally:
        await client.aclose()
    version = f"Valkey {told['valkey_version']}" if "valkey_version" in told else f"Redis {told.get('redis_version')}"
    policy = str(told.get("maxmemory_policy", KEEPS_ALL))
    return Condition(str(server), version, policy if told.get("maxmemory") and policy != KEEPS_ALL else "")
