"""What a database's URL must be."""

from urllib.parse import SplitResult, unquote, urlsplit


def database_url_problem(url: str) -> str | None:
    """What is wrong with a database's URL, in words that hold no part of it. None: nothing."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is no URL; special characters in the user name and the password must be percent-encoded"
    if parts.scheme in {"postgresql", "postgres"}:
        return _postgresql_url_problem(parts, port)
    if parts.scheme != "sqlite":
        return 'must begin with "postgresql://" or "sqlite:///"'
    path = unquote(parts.path).removeprefix("/")
    if parts.netloc or parts.query or parts.fragment or not path or path.endswith("/") or "\x00" in path:
        return 'must be "sqlite:///" and the path of a file, with no host, "?" or "#"'
    if path.startswith(":memory:"):
        return "cannot be in memory: several connections share the database"
    return None


def _postgresql_url_problem(parts: SplitResult, port: int | None) -> str | None:
    if (
        parts.fragment
        or "@" in parts.path
        or parts.netloc.count("@") > 1
        or "\x00" in unquote(parts.netloc + parts.path)
    ):
        return 'cannot hold "#", "/" or "@" in the user name and the password: percent-encode them'
    if not (parts.hostname or "host" in parts.query) or port == 0:
        return 'must be "postgresql://user:password@host:port/database"'
    return None
