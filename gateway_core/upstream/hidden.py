"""What no error may tell: keys, and where a provider is."""

import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from urllib.parse import quote, quote_plus, urlsplit

from gateway_core.config import ProviderConfig

WORD_AT_MOST = 7
"""Characters of a secret that may be a part of an ordinary word, and is hidden where it stands alone only."""

PART_AT_LEAST = 4
"""Characters of a part of a header's value that is hidden by itself."""

SCHEME = re.compile(r"[A-Za-z][\w-]*\s+")
"""What stands before credentials: "Bearer ", "AWS4-HMAC-SHA256 "."""

PORTS = {"http": 80, "https": 443}


def hidden(config: ProviderConfig) -> re.Pattern[str] | None:
    """What finds a provider's secrets and its addresses, the longest first; None where it has none."""
    aws = config.aws
    keys = (aws.access_key_id, aws.secret_access_key, aws.session_token) if aws else ()
    values = [secret.get_secret_value() for secret in (config.api_key, *keys, *config.headers.values()) if secret]
    patterns = {form: pattern(form) for value in values for secret in secrets(value) for form in forms(secret)}
    for address in addresses(config.base_url or ""):
        patterns.setdefault(address, alone(address))
    found = [patterns[word] for word in sorted(patterns, key=len, reverse=True) if word]
    return re.compile("|".join(found), re.IGNORECASE) if found else None


def pattern(secret: str) -> str:
    """What finds a secret: a long one inside of words too, because hosts glue keys to what they say."""
    return alone(secret) if len(secret) <= WORD_AT_MOST else re.escape(secret)


def alone(word: str) -> str:
    """What finds a word that is no part of a longer one."""
    return rf"(?<!\w){re.escape(word)}(?!\w)"


def secrets(value: str) -> Iterator[str]:
    """A key or a header's value: whole, what follows its scheme ("Bearer …"), and each part of that."""
    whole = value.strip()
    yield whole
    credentials = whole[scheme.end() :] if (scheme := SCHEME.match(whole)) else whole
    yield credentials
    for part in re.split(r"[\s,;]+", credentials):
        # The part of a cookie or of a list of parameters, and the value in it.
        for piece in (part, part.partition("=")[2]):
            if len(piece.strip("\"'")) >= PART_AT_LEAST:
                yield piece.strip("\"'")


def forms(secret: str) -> Iterable[str]:
    """A secret as it is, and as it stands in URLs."""
    return secret, quote(secret, safe=""), quote(secret), quote_plus(secret)


def addresses(base_url: str) -> list[str]:
    """All ways in which a URL may be quoted: whole, without its scheme or its path, as host and port, as the host.

    The host alone only where it cannot be taken for a word: "ollama" is one.
    """
    parts = urlsplit(base_url)
    host, port = parts.hostname or "", parts.port or PORTS.get(parts.scheme)
    in_url = f"[{host}]" if ":" in host else host
    origins = [parts.netloc if parts.port else "", f"{in_url}:{port}"]
    found = [base_url, f"{parts.scheme}://{parts.netloc}", *origins]
    if parts.path.strip("/"):
        found.append(base_url.partition("://")[2])
    if "." in host or is_ip(host):
        found.append(host)
    return found if host else []


def is_ip(host: str) -> bool:
    """Whether a host is an address by number."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
