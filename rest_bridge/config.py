"""What the bridge allows its callers: sizes in bytes, times in seconds."""

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class BridgeConfig:
    """The limits of the HTTP edge; every one has a default that serves."""

    request_body_bytes: int = 32 * MIB
    """The largest request body; a larger one is answered with 413."""
    header_bytes: int = 64 * 1024
    """Request line and header fields together; more is answered with 431."""
    json_depth: int = 100
    """How deep arrays and objects of a body may nest; deeper is answered with 400."""
    header_seconds: float = 10
    """How long a request's head may take, and how long an unread rest of a body is awaited after an early answer."""
    body_idle_seconds: float = 30
    """How long a body may pause."""
    body_seconds: float = 600
    """How long a whole body may take."""
    keep_alive_seconds: int = 75
    """How long a connection may stand idle between two requests (the server's `timeout_keep_alive`)."""
    connections_per_client: int = 4096
    """Open connections of one address; another one is answered with 429 and closed. Of a trusted proxy it is requests
    under way that count, each for the address for which it is passed on."""
    pipelined_requests: int = 64
    """Requests that may wait on one connection for the answer to the first; more of them close it."""
    write_buffer_bytes: int = 8 * 1024
    """What is held for a slow reader before the reading of its answer stops."""
    ping_seconds: float = 15
    """Silence after which an event stream gets a comment."""
    drain_seconds: float = 30
    """How long open answers may take to finish after SIGTERM."""
    reasoning_fields: tuple[str, ...] = ("reasoning", "reasoning_content")
    """The names under which the OpenAI dialect tells what a model thought."""
    trusted_proxies: frozenset[str] = frozenset({"127.0.0.1", "::1"})
    """Addresses whose X-Forwarded-For is believed; "*" is everybody."""
    certificate_proxies: frozenset[str] = frozenset()
    """Names of certificates ("spiffe://…", "CN=…") whose x-forwarded-client-cert is handed on to the core."""
    allowed_origins: frozenset[str] = frozenset()
    """Origins of the web pages that may call from a browser; "*" is every page."""
