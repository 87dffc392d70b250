"""Where the Redis server is, as the configuration's `redis_url` says, and a client for it."""

import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import SecretStr
from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, ResponseError

from gateway_core.redis_url import redis_url_problem
from gateway_core.storage.errors import CannotOpen

KEY = "redis_url"
PORT = 6379
CONNECTIONS = 16
REFUSALS = ("DB index", "unknown command", "MOVED")
"""In what is said to a number of no database, by what is no such server, and where another of a cluster is meant."""


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A server, and how to sign in."""

    host: str
    port: int
    database: int
    is_tls: bool
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)
    files: tuple[tuple[str, str], ...] = ()
    """In PEM, by the names of the client's parameters."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.is_tls else 'redis'}://{host}:{self.port}/{self.database}"

    @classmethod
    def at(cls, url: SecretStr) -> "RedisServer":
        """The server of a URL; raises CannotOpen, which names the key of the configuration."""
        text = url.get_secret_value()
        problem = redis_url_problem(text)
        if problem is not None:
            raise CannotOpen(f"{KEY} {problem}")
        parts = urlsplit(text)
        return cls(
            host=unquote(parts.hostname or ""),
            port=parts.port or PORT,
            database=int(parts.path.removeprefix("/") or 0),
            is_tls=parts.scheme == "rediss",
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            files=tuple(parse_qsl(parts.query)),
        )

    def client(self, connect_seconds: float, read_seconds: float) -> Redis:
        """A client that tries each command once; who asks decides what to do next. Nothing is connected yet."""
        files: dict[str, Any] = dict(self.files)
        pool = ConnectionPool(
            connection_class=SSLConnection if self.is_tls else Connection,
            max_connections=2 * CONNECTIONS,
            host=self.host,
            port=self.port,
            db=self.database,
            username=self.username,
            password=self.password,
            socket_connect_timeout=connect_seconds,
            socket_timeout=read_seconds,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            **files,
        )
        return Redis.from_pool(pool)

    def told(self, error: Exception) -> str:
        """What went wrong, for the operator: without the password."""
        return f"{KEY}: {self} {problem(error)}"


def problem(error: Exception) -> str:
    """What a failure of the client says of the server."""
    if isinstance(error, AuthenticationError):
        return "does not accept the user name or the password"
    if isinstance(error, NoPermissionError):
        return f"does not allow what is needed: {error}"
    if isinstance(error, ResponseError):
        return f"refuses: {error}"
    return f"cannot be reached: {error or type(error).__name__}"


def is_for_the_operator(error: Exception) -> bool:
    """Whether waiting mends nothing: a wrong password, right, number of a database, or certificate."""
    if isinstance(error, AuthenticationError | NoPermissionError):
        return True
    if isinstance(error, ResponseError) and any(words in str(error) for words in REFUSALS):
        return True
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError | FileNotFoundError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
