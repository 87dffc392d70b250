"""The certificates and keys on disk: checked before anything is served with them, and read again when they change."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from os import stat_result
from pathlib import Path

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from gateway_core.config_tls import ListenerTlsConfig

log = structlog.get_logger("headgate.tls")

LOOK_SECONDS = 1.0
"""How often files are looked at, at most."""
PUBLIC_FORM = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


class TlsFault(ValueError):
    """What is wrong with the files of a listener: one line for each problem, with the key of the configuration."""

    def __init__(self, problems: list[str]) -> None:
        """Takes the problems."""
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Material:
    """What a listener needs, as it stood in the files; all in PEM."""

    certificate: bytes
    private_key: bytes = field(repr=False)
    authorities: bytes | None
    """None: clients are not asked for certificates."""
    not_after: datetime
    """Until when the certificate is valid."""


def material(
    key: str, config: ListenerTlsConfig, now: datetime | None = None, *, authorities_key: str = "client_authorities"
) -> Material:
    """What is in the files, if a listener can be served with it; raises TlsFault.

    Takes the keys of the configuration, such as "tls.grpc", for what is wrong. It is checked that the certificate is
    valid at this time, that the private key is its own, and that one authority at least is valid.
    """
    now = now or datetime.now(UTC)
    problems: list[str] = []
    certificate = content(f"{key}.certificate", config.certificate, problems)
    private_key = content(f"{key}.private_key", config.private_key, problems)
    authorities = None
    if config.client_authorities is not None:
        authorities = content(f"{key}.{authorities_key}", config.client_authorities, problems)
    if problems:
        raise TlsFault(problems)
    found = certificates(f"{key}.certificate: {config.certificate}", certificate, problems)
    if found:
        problems += time_problems(f"{key}.certificate: {config.certificate}", found[0], now)
    own = public_key(f"{key}.private_key: {config.private_key}", private_key, problems)
    if found and own and found[0].public_key().public_bytes(*PUBLIC_FORM) != own:
        problems.append(f"{key}.private_key: {config.private_key}: is not the key of {config.certificate}")
    if authorities is not None:
        name = f"{key}.{authorities_key}: {config.client_authorities}"
        of_authorities = certificates(name, authorities, problems)
        late = [problem for each in of_authorities for problem in time_problems(name, each, now)]
        problems += late[:1] if len(late) == len(of_authorities) else []
    if problems:
        raise TlsFault(problems)
    return Material(certificate, private_key, authorities, found[0].not_valid_after_utc)


def content(name: str, path: Path, problems: list[str]) -> bytes:
    """What is in a file; adds a problem where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        problems.append(f"{name}: {path}: cannot be read: {error.strerror or error}")
        return b""


def certificates(name: str, pem: bytes, problems: list[str]) -> list[x509.Certificate]:
    """The certificates in a file; adds a problem where there are none."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        problems.append(f"{name}: has no certificate in PEM")
        return []


def time_problems(name: str, certificate: x509.Certificate, now: datetime) -> list[str]:
    """Why a certificate is not valid at a time."""
    if now > certificate.not_valid_after_utc:
        return [f"{name}: expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC"]
    if now < certificate.not_valid_before_utc:
        return [f"{name}: is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC"]
    return []


def public_key(name: str, pem: bytes, problems: list[str]) -> bytes:
    """The public key of a private one; adds a problem, which tells nothing of the file, where there is none."""
    try:
        return serialization.load_pem_private_key(pem, None).public_key().public_bytes(*PUBLIC_FORM)
    except TypeError:
        problems.append(f"{name}: is encrypted: write it down without a password")
    except (ValueError, UnsupportedAlgorithm):
        problems.append(f"{name}: has no private key in PEM")
    return b""


class TlsFiles:
    """The files of a listener, as they are now; what is wrong with new ones is told in the log, and the old go on.

    Any thread may ask: gRPC does so from its own.
    """

    def __init__(
        self,
        key: str,
        config: ListenerTlsConfig,
        clock: Callable[[], float] = time.monotonic,
        *,
        authorities_key: str = "client_authorities",
    ) -> None:
        """Reads them; raises TlsFault. Takes the key of the configuration, and that of the authorities below it."""
        self.key = key
        self._authorities_key = authorities_key
        self.config = config
        self._clock = clock
        self._lock = threading.Lock()
        self._seen = self._signature()
        self._fault = ""
        self._looked = clock()
        self._current = material(key, config, authorities_key=authorities_key)

    @property
    def asks_clients(self) -> bool:
        """Whether clients must show certificates."""
        return self._current.authorities is not None

    def current(self) -> Material:
        """What is to be served with; the same object for as long as the files are the same."""
        with self._lock:
            now = self._clock()
            if now - self._looked >= LOOK_SECONDS:
                self._looked = now
                self._look()
            return self._current

    def keep(self, fault: str) -> None:
        """Tells why new files are not taken."""
        if fault != self._fault:
            self._fault = fault
            log.error("certificate_not_renewed", message=fault)

    def _look(self) -> None:
        signature = self._signature()
        if signature == self._seen and not self._fault:
            return
        try:
            found = material(self.key, self.config, authorities_key=self._authorities_key)
        except TlsFault as fault:
            # Half of a renewal is on disk: the rest will come.
            self.keep(str(fault))
            return
        self._fault = ""
        self._seen = signature
        if found != self._current:
            self._current = found
            log.info("certificate_renewed", message=f"{self.key}: valid until {found.not_after:%Y-%m-%d %H:%M:%S} UTC")

    def _signature(self) -> tuple[tuple[int, int, int] | None, ...]:
        config = self.config
        return tuple(looked_at(path) for path in (config.certificate, config.private_key, config.client_authorities))


def looked_at(path: Path | None) -> tuple[int, int, int] | None:
    """What differs where a file was written or replaced, also by way of symbolic links. None: there is none."""
    try:
        found: stat_result | None = None if path is None else path.stat()
    except OSError:
        return None
    return None if found is None else (found.st_ino, found.st_size, found.st_mtime_ns)
