"""The checks of `headgate doctor` for TLS: the files, and who shows a certificate at an address."""

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gateway_core.config import Config
from gateway_core.config_tls import CoreTlsConfig, ListenerTlsConfig
from gateway_core.tls_files import TlsFault, material
from headgate_cli.address import Address
from headgate_cli.checks import Check
from headgate_cli.errors import CommandFailed
from headgate_cli.tls import channel_credentials, core_files

SOON = timedelta(days=14)
SECONDS = 2.0


def tls_checks(config: Config) -> Iterator[Check]:
    """What is to be told of the files of the configuration."""
    for name, row in (("grpc", config.tls.grpc), ("http", config.tls.http)):
        if row is not None:
            yield from listener_checks(f"tls.{name}", row)
    if config.core_tls is not None:
        yield core_check(config.core_tls)


def listener_checks(key: str, row: ListenerTlsConfig) -> Iterator[Check]:
    """The files of a listener."""
    try:
        found = material(key, row)
    except TlsFault as fault:
        for problem in fault.problems:
            yield Check("wrong", "TLS", problem, "mend the file, or the key of the configuration")
        return
    clients = "" if found.authorities is None else "; clients must show certificates"
    text = f"{key}: {row.certificate}: valid until {found.not_after:%Y-%m-%d %H:%M:%S} UTC{clients}"
    if found.not_after - datetime.now(UTC) < SOON:
        yield Check("note", "TLS", text, "renew it in time: a server that runs takes new files by itself")
    else:
        yield Check("ok", "TLS", text)


def core_check(row: CoreTlsConfig) -> Check:
    """The files of a bridge apart."""
    try:
        files = core_files(row)
        if files is None:
            channel_credentials(row)
    except CommandFailed as error:
        text = str(error) if str(error).startswith("core_tls") else f"core_tls.authorities: {error}"
        return Check("wrong", "TLS", text, "mend the file, or the key of the configuration")
    return Check("ok", "TLS", f"core_tls: {'shows a certificate' if row.certificate else 'shows no certificate'}")


async def shows(address: Address, certificate: Path) -> str | None:
    """Says that a certificate is shown at an address. None: it is not."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # it is compared, which says more
    found: bytes | None = None
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(SECONDS):
            _, writer = await asyncio.open_connection(address.host, address.port, ssl=context)
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.transport.abort()
    return f"shows {certificate}" if found and found == der_of(certificate) else None


def der_of(path: Path) -> bytes | None:
    """The first certificate of a file. None: it has none."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    try:
        return ssl.PEM_cert_to_DER_cert(begin + path.read_text().partition(begin)[2].partition(end)[0] + end + "\n")
    except (OSError, ValueError):
        return None
