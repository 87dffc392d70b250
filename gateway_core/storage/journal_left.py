"""The journals in files that processes have left which have died: found, and held while somebody sees to them."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import structlog

from gateway_core.storage.journal_file import LOCK, lines, lock_path, segment_paths

log = structlog.get_logger("headgate.storage")


def locked(path: Path) -> int | None:
    """The descriptor of a lock that nobody holds any more, locked until it is closed; raises OSError.

    None: somebody holds it, or it is gone.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file), path.stat()):
            return file
    except (BlockingIOError, FileNotFoundError):  # somebody else has seen to it between the two
        pass
    except BaseException:
        os.close(file)
        raise
    os.close(file)
    return None


class Dead:
    """The journal of a process that has ended without closing it, held so that nobody else sees to it meanwhile."""

    def __init__(self, directory: Path, process_id: str, lock: int) -> None:
        """Takes the descriptor of its lock."""
        self._directory = directory
        self.process_id = process_id
        self._lock = lock

    def paths(self) -> list[Path]:
        """Its files, in their order; raises OSError."""
        return segment_paths(self._directory, self.process_id)

    def lines(self) -> Iterator[bytes]:
        """What it has put, in that order; raises OSError."""
        return lines(self._directory, self.process_id)

    def close(self, *, is_kept: bool) -> None:
        """Lets it go, and deletes it where it is not kept."""
        if not is_kept:
            for path in segment_paths(self._directory, self.process_id):
                path.unlink(missing_ok=True)
            lock_path(self._directory, self.process_id).unlink(missing_ok=True)
        os.close(self._lock)


def dead_journals(directory: Path, set_aside: set[str] | None = None) -> Iterator[Dead]:
    """The journals of processes that have ended, but of those set aside; each is to be closed.

    One that this process may not open is told in the log, and set aside too.
    """
    aside: set[str] = set() if set_aside is None else set_aside
    for path in sorted(directory.glob(f"*{LOCK}")):
        process_id = path.name.removesuffix(LOCK)
        if process_id in aside:
            continue
        try:
            lock = locked(path)
        except OSError as error:
            log.error("journal_not_readable", process_id=process_id, message=f"{path}: {error.strerror}")
            aside.add(process_id)
            continue
        if lock is not None:
            yield Dead(directory, process_id, lock)
