"""Why no gateway could be asked, in words that say what to change."""

import os
import ssl

import httpx
from grpc import aio

from headgate_cli.address import TLS_MARK
from headgate_cli.errors import CommandFailed
from headgate_cli.tls import VARIABLES

NOT_BELIEVED = "CERTIFICATE_VERIFY_FAILED"
NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")
"""What OpenSSL and BoringSSL say where the other side answers something that is no TLS."""
CUT_OFF = ("Socket closed", "Connection reset", "_ALERT_")
"""What gRPC says where the other side ended the connection before it answered, and both of an alert of TLS."""


def unreachable(where: str, error: httpx.HTTPError | httpx.InvalidURL | aio.AioRpcError) -> CommandFailed:
    """Says why nobody could be asked at a URL or, over gRPC, at an address, with https:// for TLS."""
    said = words(error)
    if NOT_BELIEVED in said:
        why = said.partition(NOT_BELIEVED)[2].strip(" ]:").removeprefix("certificate verify failed: ")
        return CommandFailed(
            f"{where}: its certificate is not believed ({why}): name the file of its authority in "
            f"{VARIABLES['authorities']}, or the host as its certificate has it"
        )
    if any(mark in said for mark in NO_TLS):
        return CommandFailed(f"{where}: what answers there speaks no TLS: leave out https://, or name another place")
    is_cut_off = isinstance(error, httpx.RemoteProtocolError | httpx.ReadError) or any(mark in said for mark in CUT_OFF)
    if not is_cut_off:
        advice = "start one with `headgate serve`, or name another place"
        return CommandFailed(f"no Headgate answers at {where}: {advice} ({said})")
    if not where.startswith(TLS_MARK):
        return CommandFailed(f"{where}: the connection was ended without an answer: it may want TLS (https://); {said}")
    shown = os.environ.get(VARIABLES["certificate"])
    own = f"{VARIABLES['certificate']} and {VARIABLES['private_key']}"
    hint = f"it may not believe {shown}" if shown else f"it may ask for a certificate: set {own}"
    return CommandFailed(f"{where}: the connection was ended without an answer: {hint}; {said}")


def words(error: httpx.HTTPError | httpx.InvalidURL | aio.AioRpcError) -> str:
    """What an error says of its cause, in one line."""
    if isinstance(error, aio.AioRpcError):
        details = " ".join((error.details() or "no further words").split())
        return details.rpartition("last error: ")[2].removesuffix(": OK")
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    said = str(cause or error) or type(error).__name__
    return " ".join(said.partition(" (_ssl.c")[0].split()).removesuffix(".")
