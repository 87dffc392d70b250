"""What the URL of a Redis server must be."""

from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

FILES = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
"""What may stand in the query, of rediss:// only: files in PEM; of the server's authorities, and the client's own."""


def redis_url_problem(url: str) -> str | None:
    """What is wrong with the URL of a Redis or Valkey server, in words that hold no part of it. None: nothing."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is no URL; special characters in the user name and the password must be percent-encoded"
    if parts.scheme not in {"redis", "rediss"}:
        return 'must begin with "redis://" or "rediss://"'
    if parts.fragment or parts.netloc.count("@") > 1 or "@" in parts.path or "\x00" in unquote(url):
        return 'cannot hold "#", "/" or "@" in the user name and the password: percent-encode them'
    if not parts.hostname or port == 0:
        return 'must be "redis://user:password@host:port/database"'
    number = parts.path.removeprefix("/")
    if number and not (number.isascii() and number.isdigit()):
        return "must end with the number of a database, or with none"
    return _query_problem(parts)


def _query_problem(parts: SplitResult) -> str | None:
    try:
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        return "has a query that cannot be read"
    names = [name for name, _ in query]
    if query and parts.scheme != "rediss":
        return 'can have a query with "rediss://" only'
    if set(names) - FILES or len(set(names)) != len(names) or not all(value for _, value in query):
        return f"can have nothing in its query but {', '.join(sorted(FILES))}, each with a file"
    if "ssl_keyfile" in names and "ssl_certfile" not in names:
        return "has ssl_keyfile without ssl_certfile"
    return None
