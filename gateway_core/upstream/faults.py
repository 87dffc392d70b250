"""From the HTTP library's exceptions to the gateway's errors: the one place where the two meet.

No message holds a URL, an address or a key: the library's own messages do, so they are not passed on.
"""

import aiohttp

from gateway_core import errors

# What the library raises for faults of the other side or of the way to it.
LIBRARY_ERRORS = (aiohttp.ClientError, OSError, aiohttp.http_exceptions.HttpProcessingError)

# The first class that fits tells the error and what the provider did.
FAULTS: tuple[tuple[type[BaseException], type[errors.ProviderError], str], ...] = (
    (aiohttp.ConnectionTimeoutError, errors.ProviderTimeout, "did not accept a connection in time"),
    (aiohttp.ClientConnectorCertificateError, errors.ProviderUnreachable, "has a certificate that is not trusted"),
    (aiohttp.ClientConnectorSSLError, errors.ProviderUnreachable, "could not agree on TLS"),
    (aiohttp.ClientConnectorDNSError, errors.ProviderUnreachable, "has a host name that does not resolve"),
    (aiohttp.ClientProxyConnectionError, errors.ProviderUnreachable, "is behind a proxy that accepts no connection"),
    (aiohttp.ClientHttpProxyError, errors.ProviderUnreachable, "is behind a proxy that refused to connect to it"),
    (aiohttp.ClientConnectorError, errors.ProviderUnreachable, "did not accept a connection"),
    (aiohttp.ServerDisconnectedError, errors.ProviderBroken, "closed the connection without an answer"),
    (aiohttp.ClientPayloadError, errors.ProviderBroken, "sent an answer that broke off or was badly encoded"),
    (aiohttp.ClientResponseError, errors.ProviderBroken, "sent an answer that is not HTTP"),
    (OSError, errors.ProviderBroken, "broke the connection off"),
)
OTHER_FAULT = (errors.ProviderBroken, "sent an answer that makes no sense")

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

WAITS = {
    "connect": "a connection",
    "first_byte": "the beginning of an answer",
    "idle": "the next piece of an answer",
    "total": "the whole answer",
}


def fault(provider: str, error: BaseException) -> errors.ProviderError:
    """The gateway's error for one of LIBRARY_ERRORS."""
    kind, what = next(((kind, what) for raised, kind, what in FAULTS if isinstance(error, raised)), OTHER_FAULT)
    if kind is errors.ProviderTimeout:
        return timeout(provider, "connect")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        code = getattr(error.certificate_error, "verify_code", None)
        what += f": {CERTIFICATE_FAULTS[code]}" if code in CERTIFICATE_FAULTS else ""
    return kind(f"Provider {provider} {what}.", provider=provider)


def timeout(provider: str, phase: str) -> errors.ProviderTimeout:
    """The error of a provider that was waited for as long as the configuration allows; phase: a key of WAITS."""
    message = f"Provider {provider} took too long: waited for {WAITS[phase]}."
    return errors.ProviderTimeout(message, provider=provider, phase=phase)


def oversized(provider: str, limit: int) -> errors.ProviderBroken:
    """The error of a provider whose answer, or one event of it, has more bytes than the configuration allows."""
    message = f"Provider {provider} sent more than the {limit} bytes that answer_bytes allows for an answer."
    return errors.ProviderBroken(message, provider=provider)


def late(provider: str) -> errors.DeadlineExceeded:
    """The error of a call whose caller's deadline passed."""
    return errors.DeadlineExceeded(
        f"The deadline passed before provider {provider} had answered in full.", provider=provider
    )
