"""Secrets at rest: sealed with AES-256-GCM under a key of the environment or of a file that only its owner reads."""

import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from gateway_core.storage.errors import SecretKeyInvalid, SecretUnreadable

VARIABLE = "HEADGATE_SECRET_KEY"
FILE_NAME = "secret.key"
SHORTEST = 32
NONCE_BYTES = 12  # NIST SP 800-38D, 8.2.2: random nonces of 96 bits

# The first byte of what is sealed says with which key: a later rotation counts on.
FIRST_KEY = b"\x01"


class SecretBox:
    """Seals texts, and opens what it sealed.

    What is sealed is a byte that names the key, a nonce of 12 bytes, the encrypted text and a tag of 16 bytes.
    """

    def __init__(self, key: str, source: str) -> None:
        """Takes a text of at least 32 characters, stretched by HKDF (RFC 5869, SHA-256), and where it is from."""
        if len(key) < SHORTEST:
            raise SecretKeyInvalid(f"{source}: a secret key has at least {SHORTEST} characters")
        derived = HKDF(SHA256(), length=32, salt=None, info=b"headgate secret box 1").derive(key.encode())
        self._derived = derived
        self._cipher = AESGCM(derived)
        self.source = source
        """Where the key is from: the variable or the file."""

    def __repr__(self) -> str:
        return f"SecretBox(source={self.source!r})"

    def seal(self, text: str, place: str) -> bytes:
        """The text, encrypted for a place, such as "accounts.hook_secret:<id>": elsewhere it cannot be opened."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return FIRST_KEY + nonce + self._cipher.encrypt(nonce, text.encode(), FIRST_KEY + place.encode())

    def cipher(self, place: str) -> AESGCM:
        """A cipher for one place that seals much: its key is of its own, so that random nonces do not run out."""
        return AESGCM(HKDF(SHA256(), length=32, salt=None, info=place.encode()).derive(self._derived))

    def open(self, sealed: bytes, place: str) -> str:
        """The text that was sealed for the place; raises SecretUnreadable."""
        key, nonce, rest = sealed[:1], sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        if key != FIRST_KEY or len(nonce) < NONCE_BYTES:
            raise SecretUnreadable(f"{place.partition(':')[0]} was not sealed by this version of Headgate.")
        try:
            return self._cipher.decrypt(nonce, rest, FIRST_KEY + place.encode()).decode()
        except InvalidTag:
            raise SecretUnreadable(
                f"{place.partition(':')[0]} cannot be read with the key of {self.source}: it was sealed with another "
                f"key, or has been changed. Set {VARIABLE}, or restore {FILE_NAME} in the data directory, as it was."
            ) from None


def secret_box(environ: Mapping[str, str], data_directory: Path) -> SecretBox:
    """A box with the key of HEADGATE_SECRET_KEY, or else of `secret.key` in the data directory, made if there is none.

    Raises SecretKeyInvalid where the key is too short, or others may read or write the file.
    """
    if key := environ.get(VARIABLE, ""):
        return SecretBox(key, VARIABLE)
    path = data_directory / FILE_NAME
    try:
        if not path.exists():
            _make(path)
        return SecretBox(_kept(path), str(path))
    except OSError as error:
        raise SecretKeyInvalid(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SecretKeyInvalid(f"{path}: is not text") from None


def _kept(path: Path) -> str:
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SecretKeyInvalid(f"{path}: others may read or write it; say: chmod 600 {path}")
        return file.read().decode().strip()


def _make(path: Path) -> None:
    """Writes a new key. It appears at once and whole, and never in the place of another: processes start together."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{secrets.token_urlsafe(48)}\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
        _sync(path.parent)
    finally:
        draft.unlink()


def _sync(directory: Path) -> None:
    """Makes a new name in a directory outlast a power cut, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
