"""TLS of the program: what the HTTP listener shows, and what its own clients trust and show."""

import os
import ssl
from collections.abc import Mapping
from pathlib import Path

import certifi
import grpc
from pydantic import ValidationError

from gateway_core.config_tls import CoreTlsConfig, ListenerTlsConfig
from gateway_core.tls_context import renewed_context
from gateway_core.tls_files import TlsFault, TlsFiles
from headgate_cli.errors import CommandFailed, WrongUse

VARIABLES = {
    "authorities": "HEADGATE_AUTHORITIES",
    "certificate": "HEADGATE_CERTIFICATE",
    "private_key": "HEADGATE_PRIVATE_KEY",
}
"""Where the environment tells the clients of the program what `core_tls` tells a bridge."""


def http_files(config: ListenerTlsConfig | None) -> TlsFiles | None:
    """The files of the HTTP listener, where it speaks TLS; raises CommandFailed."""
    try:
        return None if config is None else TlsFiles("tls.http", config)
    except TlsFault as fault:
        raise CommandFailed(*fault.problems) from None


def https_context(files: TlsFiles) -> ssl.SSLContext:
    """The context of an HTTP listener, in which each new connection is served as the files say then."""
    return renewed_context(files, "http/1.1")


def of_environment(environ: Mapping[str, str] = os.environ) -> CoreTlsConfig:
    """What the program's own clients trust and show, as the environment says; raises WrongUse."""
    given = {key: environ[name] for key, name in VARIABLES.items() if environ.get(name)}
    try:
        return CoreTlsConfig.model_validate(given)
    except ValidationError:
        both = f"{VARIABLES['certificate']} and {VARIABLES['private_key']}"
        raise WrongUse(f"{both} go together, and are paths of files") from None


def channel_credentials(config: CoreTlsConfig) -> grpc.ChannelCredentials:
    """What a client of a core needs; raises CommandFailed where a file cannot be read."""
    shown = None if config.certificate is None else read(config.certificate)
    key = None if config.private_key is None else read(config.private_key)
    return grpc.ssl_channel_credentials(read(authorities(config)), key, shown)


def core_files(config: CoreTlsConfig) -> TlsFiles | None:
    """The files of a bridge apart. None: it shows none. Raises CommandFailed."""
    if config.certificate is None or config.private_key is None:
        return None
    row = ListenerTlsConfig(
        certificate=config.certificate, private_key=config.private_key, client_authorities=config.authorities
    )
    try:
        return TlsFiles("core_tls", row, authorities_key="authorities")
    except TlsFault as fault:
        raise CommandFailed(*fault.problems) from None


def client_context(config: CoreTlsConfig) -> ssl.SSLContext:
    """The same for a client of a bridge; raises CommandFailed."""
    try:
        context = ssl.create_default_context(cafile=authorities(config))
        if config.certificate is not None and config.private_key is not None:
            context.load_cert_chain(config.certificate, config.private_key, password="")
    except (OSError, ssl.SSLError) as error:
        names = ", ".join(VARIABLES.values())
        raise CommandFailed(f"the files of {names} cannot be used: {error}") from None
    return context


def authorities(config: CoreTlsConfig) -> Path:
    """The file of those who may have signed a server's certificate."""
    return config.authorities or Path(os.environ.get("SSL_CERT_FILE") or certifi.where())


def read(path: Path) -> bytes:
    """What is in a file; raises CommandFailed."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CommandFailed(f"{path}: cannot be read: {error.strerror or error}") from None
