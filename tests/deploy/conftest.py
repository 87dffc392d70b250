"""Real stores, as deployments have them."""

from tests.support.postgres import postgres_server
from tests.support.redis import redis_server

__all__ = ["postgres_server", "redis_server"]
