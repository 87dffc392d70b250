"""Where a provider is, and by which way: the base URL, the environment's proxy, the roots that are trusted."""

import os
import ssl
from base64 import b64encode
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Self
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi

PORTS = {"http": 80, "https": 443}

VISIBLE = "".join(map(chr, range(0x21, 0x7F)))


@dataclass(frozen=True, slots=True)
class Origin:
    """A server: how it is spoken to, and where it is."""

    scheme: str
    host: str
    """Without the brackets of an IPv6 address, in ASCII."""
    port: int

    @classmethod
    def of(cls, url: str) -> Self:
        """The server of a URL; raises ValueError where it has none."""
        parts = urlsplit(url)
        if not parts.hostname:
            raise ValueError("there is no host")
        host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
        return cls(parts.scheme, host, parts.port or PORTS.get(parts.scheme, 0))

    @property
    def authority(self) -> str:
        """Host and port, as CONNECT and NO_PROXY have them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def name(self) -> str:
        """What the header Host says: the port only where it is not the scheme's."""
        return self.authority.rpartition(":")[0] if self.port == PORTS[self.scheme] else self.authority

    @property
    def is_loopback(self) -> bool:
        """Whether it is this machine."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        try:
            return ip_address(self.host.partition("%")[0]).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class Proxy:
    """What stands between."""

    origin: Origin
    authorization: str | None
    """Its own header Proxy-Authorization."""


def base(provider: str, url: str) -> tuple[Origin, str, str]:
    """The server, the path and the query ("?a=b", or empty) of a base URL.

    Raises ValueError where requests cannot be sent there.
    """
    parts = urlsplit(url)
    if not parts.hostname or parts.username is not None or parts.password is not None:
        raise ValueError(f"providers.{provider}.base_url must have a host, and no user name or password")
    if parts.fragment:
        raise ValueError(f"providers.{provider}.base_url must end with a path or a query")
    try:
        query = f"?{quote(parts.query, safe=VISIBLE)}" if parts.query else ""
        return Origin.of(url), quote(parts.path, safe=VISIBLE), query
    except ValueError:
        raise ValueError(f"providers.{provider}.base_url has a host or a port that cannot be asked") from None


def proxy(origin: Origin) -> Proxy | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY name for a server; this machine needs none.

    Its scheme may be any. Raises ValueError where it is no URL.
    """
    proxies = getproxies()
    address = proxies.get(origin.scheme) or proxies.get("all")
    if not address or origin.is_loopback or proxy_bypass(origin.authority):
        return None
    url = address if "://" in address else f"http://{address}"
    parts = urlsplit(url)
    authorization = None
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {b64encode(credentials.encode()).decode()}"
    return Proxy(Origin.of(url), authorization)


def tls() -> ssl.SSLContext:
    """What verifies providers: the roots of SSL_CERT_FILE and SSL_CERT_DIR, else the system's, else Mozilla's."""
    return _tls(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=4)
def _tls(*_: str | None) -> ssl.SSLContext:
    # Loading the roots takes tens of milliseconds: providers share them.
    paths = ssl.get_default_verify_paths()
    has_roots = paths.cafile is not None or (paths.capath is not None and bool(os.listdir(paths.capath)))
    context = ssl.create_default_context(cafile=None if has_roots else certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context
