"""What can go wrong with the database and with secrets at rest.

StorageError
├── StorageUnavailable   the database cannot be reached or cannot answer now; another attempt may succeed
│   └── CannotOpen       … at the start: what the operator has to change
├── Conflict             a row broke a rule of uniqueness or reference
├── BalanceTooLarge      a credit would bring a balance beyond what its column takes
├── SchemaTooNew         a newer version of the program has changed the tables
├── SecretKeyInvalid     the secret key is too short, or its file is not as it must be
└── SecretUnreadable     a secret was sealed with another key, for another place, or was changed
"""

from gateway_core.errors import Unavailable

RETRY_AFTER_SECONDS = 1.0
TOLD = "What Headgate keeps cannot be reached now; try again later."


class StorageError(Exception):
    """A failure of the storage: a sentence that names no secret."""


class StorageUnavailable(Unavailable, StorageError):
    """The database cannot be reached, is locked for too long, or has no room.

    Its text is for the operator and may name hosts and files; callers are told its `message`.
    """

    def __init__(self, problem: str) -> None:
        """Takes what is wrong, for the operator."""
        super().__init__(TOLD, retry_after_seconds=RETRY_AFTER_SECONDS)
        self.args = (problem,)


class CannotOpen(StorageUnavailable):
    """The database cannot be opened."""


class Conflict(StorageError):
    """A row would break a rule of uniqueness or reference."""


class BalanceTooLarge(StorageError):
    """A balance would be beyond what its column takes."""


class SchemaTooNew(StorageError):
    """The tables have been changed by a newer version of the program."""


class SecretKeyInvalid(StorageError):
    """The secret key, or the file that it is in, is not as it must be."""


class SecretUnreadable(StorageError):
    """A secret cannot be read with this key."""
