"""What can go wrong on the way to a provider, as the gateway's errors.

No message holds a URL, an address or a key: the system's own messages do, so they are not passed on.
"""

import socket
import ssl
from typing import Literal

from gateway_core import errors
from gateway_core.upstream.reach import OutOfReach

Broken = Literal["unanswered", "reset", "cut", "garbage"]

BROKEN: dict[Broken, str] = {
    "unanswered": "closed the connection without an answer",
    "reset": "broke the connection off",
    "cut": "sent an answer that broke off or was badly encoded",
    "garbage": "sent an answer that is not HTTP",
}

# The first class that fits tells what the provider did.
UNREACHABLE: tuple[tuple[type[Exception], str], ...] = (
    (ssl.SSLCertVerificationError, "has a certificate that is not trusted"),
    (ssl.SSLError, "could not agree on TLS"),
    (socket.gaierror, "has a host name that does not resolve"),
    (UnicodeError, "has a host name that does not resolve"),
    (OutOfReach, "has an address that may not be asked"),
    (OSError, "did not accept a connection"),
)
DIAL_ERRORS = (OSError, UnicodeError)

# The numbers are OpenSSL's (X509_V_ERR_…, openssl/x509_vfy.h).
CERTIFICATE_FAULTS = {
    9: "it is not valid yet",
    10: "it has expired",
    18: "it is self-signed",
    19: "its chain ends in a self-signed certificate",
    20: "its issuer is not known",
    62: "it is for another host",
    64: "it is for another address",
}

Phase = Literal["connect", "first_byte", "idle", "total"]

WAITS: dict[Phase, str] = {
    "connect": "a connection",
    "first_byte": "the beginning of an answer",
    "idle": "the next piece of an answer",
    "total": "the whole answer",
}


class ProxyFault(OSError):
    """The proxy did what its message says."""


def broken(provider: str, what: Broken) -> errors.ProviderBroken:
    """The error of a connection that stood and ended, or carried what it should not."""
    return errors.ProviderBroken(f"Provider {provider} {BROKEN[what]}.", provider=provider)


def hung_up(provider: str, what: Broken) -> errors.ProviderHungUp:
    """The error of a connection that stood and ended before there were headers."""
    return errors.ProviderHungUp(f"Provider {provider} {BROKEN[what]}.", provider=provider)


def unreachable(provider: str, error: Exception) -> errors.ProviderUnreachable:
    """The error for one of DIAL_ERRORS, raised before a connection stood."""
    if isinstance(error, ProxyFault):
        what = f"is behind a proxy that {error}"
    else:
        what = next(what for raised, what in UNREACHABLE if isinstance(error, raised))
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in CERTIFICATE_FAULTS:
        what += f": {CERTIFICATE_FAULTS[error.verify_code]}"
    return errors.ProviderUnreachable(f"Provider {provider} {what}.", provider=provider)


def timeout(provider: str, phase: Phase) -> errors.ProviderTimeout:
    """The error of a provider that was waited for as long as the configuration allows."""
    message = f"Provider {provider} took too long: waited for {WAITS[phase]}."
    return errors.ProviderTimeout(message, provider=provider, phase=phase)


def late(provider: str) -> errors.DeadlineExceeded:
    """The error of a call whose caller's deadline passed."""
    return errors.DeadlineExceeded(
        f"The deadline passed before provider {provider} had answered in full.", provider=provider
    )


def oversized(provider: str, limit: int) -> errors.ProviderBroken:
    """The error of a provider whose answer, or one event of it, has more bytes than the configuration allows."""
    message = f"Provider {provider} sent more than the {limit} bytes that answer_bytes allows for an answer."
    return errors.ProviderBroken(message, provider=provider)
