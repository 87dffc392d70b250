"""The part of the configuration that says how the listeners prove who they are, and whom they believe."""

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from gateway_core.config_part import Part

SPIFFE_ID = re.compile(r"spiffe://[a-z0-9._-]{1,255}(/[a-zA-Z0-9._-]+)*")
IDENTITY_AT_MOST = 2048
ROOT = "root"


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError('begins with "~", and there is no home directory') from None


def _is_identity(value: str) -> str:
    is_named = value.startswith("CN=") and len(value) > 3 and value == value.strip()
    if len(value) > IDENTITY_AT_MOST or not (is_named or SPIFFE_ID.fullmatch(value)):
        raise ValueError(f'{value[:200]!r} must be like "spiffe://example.org/path" or "CN=name"')
    return value


File = Annotated[Path, AfterValidator(_expanded)]
"""A PEM file; what is no absolute path begins at the working directory."""
Identity = Annotated[str, AfterValidator(_is_identity)]
"""What a certificate calls its owner: a SPIFFE ID, or "CN=" and the common name of one that has no SPIFFE ID."""


class ListenerTlsConfig(Part):
    """What a listener shows, and whom it lets in."""

    certificate: File
    """Its certificate first, then those between it and the authority that clients know."""
    private_key: File
    """Of the certificate; not encrypted."""
    client_authorities: File | None = None
    """A client must show a certificate of one of these. None: it is not asked for one."""


class TlsConfig(Part):
    """Which listeners speak TLS. None: in the clear."""

    grpc: ListenerTlsConfig | None = None
    http: ListenerTlsConfig | None = None

    @property
    def asks_clients(self) -> bool:
        """Whether clients of any listener must show certificates."""
        return any(row is not None and row.client_authorities is not None for row in (self.grpc, self.http))


class CoreTlsConfig(Part):
    """How a bridge apart calls a core that speaks TLS."""

    authorities: File | None = None
    """Those that may have signed the core's certificate. None: the public ones."""
    certificate: File | None = None
    """What the bridge shows. None: nothing."""
    private_key: File | None = None

    @model_validator(mode="after")
    def _has_both_or_neither(self) -> "CoreTlsConfig":
        if (self.certificate is None) != (self.private_key is None):
            raise ValueError("certificate and private_key go together")
        return self


class ClientCertificatesConfig(Part):
    """Who callers are that bring a certificate in the place of a key."""

    accounts: dict[Identity, Annotated[str, Field(min_length=1, max_length=256)]] = Field(default_factory=dict)
    """The account of each: its id, "root" for the operator's own, or the external_ref of one directly below that."""
    proxies: frozenset[Identity] = frozenset()
    """Whose x-forwarded-client-cert is believed. Nobody calls with the certificate of a proxy itself."""

    @model_validator(mode="after")
    def _proxies_are_no_callers(self) -> "ClientCertificatesConfig":
        for both in sorted(self.proxies & self.accounts.keys()):
            raise ValueError(f"{both!r} is in accounts and in proxies: a proxy calls for others, never for itself")
        return self
