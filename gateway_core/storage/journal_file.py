"""The journal of a database in a file: files mapped into memory, so that a line outlives the process when it is put.

The kernel owns what is written into a mapped file: nothing has to be asked of it, and no thread, for the line to be
there after a SIGKILL. A power cut may take the lines of the last moments with it.
"""

import errno
import fcntl
import mmap
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from struct import Struct
from zlib import crc32

from gateway_core.storage.errors import StorageUnavailable

SEGMENT_BYTES = 4 << 20
SPARE_LEFT = SEGMENT_BYTES // 2
"""What the last segment must have left, or a spare one must be there, for a call to be opened."""
MOST_SPARES = 2
"""Files that nobody needs are kept for the next lines, so many of them: their pages are in memory, and new ones would
have to be found and cleared, page by page, while calls wait."""
MOST_SEGMENTS = 256
"""A gigabyte: then the database has been away for too long."""
HEAD = Struct("<II")
"""Before a line: its length in bytes, at least 1, and its CRC-32. Zeros: there is no more."""
HEAD_BYTES = HEAD.size
NO_MORE = bytes(HEAD_BYTES)
pack_head_into = HEAD.pack_into
INSTEAD = "give `data_directory` a local disk that can be written on, or set `ledger_journal: database`"
LOCK = ".lock"
UNFINISHED = ".new"
SEGMENT = ".calls"


def journal_directory(database: Path) -> Path:
    """Where the journals of the processes are that use a database in a file: beside it."""
    return database.with_name(f"{database.name}-calls")


class Segment:
    """A file, filled from its beginning, until nobody needs one of its lines."""

    __slots__ = ("end", "lines", "map", "path")

    def __init__(self, path: Path) -> None:
        """Makes the file, with its room on the disk; raises OSError."""
        self.path = path
        self.end = 0
        self.lines = 0
        """How many of its lines are needed."""
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            take_room(file, SEGMENT_BYTES)
            self.map = mmap.mmap(file, SEGMENT_BYTES)
        except BaseException:
            path.unlink()
            raise
        finally:
            os.close(file)

    def renew(self, path: Path) -> None:
        """Makes it an empty one that nobody has filled, of another name; raises OSError."""
        # Whoever looks at it by its new name finds nothing in it.
        self.map[:HEAD_BYTES] = NO_MORE
        self.end = 0
        self.path.rename(path)
        self.path = path

    def remove(self) -> None:
        """Ends it."""
        self.map.close()
        with suppress(FileNotFoundError):
            self.path.unlink()


def take_room(file: int, size: int) -> None:
    """Takes the room of a new file on the disk; raises OSError. A full disk would kill whoever writes into the map."""
    allocate = getattr(os, "posix_fallocate", None)  # macOS has none
    if allocate is not None:
        try:
            allocate(file, 0, size)
            return
        except OSError as error:
            # Where the file system has none either the C library does it by writing, or leaves that to the caller.
            if error.errno not in {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}:
                raise
    zeros = bytes(min(size, 1 << 20))
    written = 0
    while written < size:
        written += os.pwrite(file, zeros[: size - written], written)


class JournalFile:
    """The journal of this process. `open`, `care` and `close` block: they want a thread."""

    def __init__(self, directory: Path, process_id: str, wants_care: Callable[[], None]) -> None:
        """Takes the directory, which need not exist, the id of the process, and what is called when there is to do."""
        self._directory = directory
        self._wants_care = wants_care
        self._process_id = process_id
        self._lock: int | None = None
        self._count = 0
        self._segments: list[Segment] = []
        """Those that are needed, in their order. The last is the one that is filled."""
        self._spares: deque[Segment] = deque()
        """Those that come next, in the order of their names."""
        self._emptied: list[Segment] = []

    def open(self) -> None:
        """Tells others that this process lives, and makes room; raises StorageUnavailable."""
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            self._lock = made_locked(lock_path(self._directory, self._process_id))
            self._segments.append(self._made())
            self._spares.append(self._made())
        except OSError as error:
            raise StorageUnavailable(f"{no_room(self._directory, error)}; {INSTEAD}") from error

    def put(self, line: bytes) -> Segment:
        """Adds a line, which is kept whatever becomes of the process; raises StorageUnavailable where there is no room.

        The line is needed until `release` is called for its segment.
        """
        if not self._segments:
            raise StorageUnavailable(f"{self._directory}: the journal is closed.")
        segment, length = self._segments[-1], len(line)
        start = segment.end
        end = start + HEAD_BYTES + length
        if end + HEAD_BYTES > SEGMENT_BYTES:
            segment = self._next(length)
            start, end = 0, HEAD_BYTES + length
        # The line before its head: until that is there it is not. What was in the file before ends behind it.
        segment.map[start + HEAD_BYTES : end + HEAD_BYTES] = line + NO_MORE
        pack_head_into(segment.map, start, length, crc32(line))
        segment.end = end
        segment.lines += 1
        return segment

    def release(self, segment: Segment) -> None:
        """Nobody needs one of the lines of a segment."""
        segment.lines -= 1
        if not segment.lines and self._segments and segment is not self._segments[-1]:
            self._segments.remove(segment)
            self._emptied.append(segment)
            self._wants_care()

    @property
    def has_room(self) -> bool:
        """Whether there is enough for calls to be opened, and for the end of those that are."""
        return self.has_spare or self._segments[-1].end < SPARE_LEFT

    @property
    def has_spare(self) -> bool:
        """Whether the next file is there."""
        return bool(self._spares) or not self._segments

    @property
    def is_cared_for(self) -> bool:
        """Whether there is nothing for `care` to do."""
        return self.has_spare and not self._emptied

    def sparse(self, most: int) -> Segment | None:
        """The oldest segment of which at most so many lines are needed, but for the one that is filled."""
        return next((segment for segment in self._segments[:-1] if segment.lines <= most), None)

    def __len__(self) -> int:
        """How many segments are needed."""
        return len(self._segments)

    def care(self) -> None:
        """Has a file that nobody needs come next, or deletes it, and makes the next where there is none.

        Raises StorageUnavailable.
        """
        while self._emptied:
            self._care_for(self._emptied.pop())
        if not self._spares:
            if len(self._segments) >= MOST_SEGMENTS:
                raise StorageUnavailable(f"{self._directory}: {MOST_SEGMENTS} files are full of calls to be written.")
            try:
                self._spares.append(self._made())
            except OSError as error:
                raise no_room(self._directory, error) from error

    def close(self, *, is_kept: bool) -> None:
        """Ends it; what is kept is found by another process as that of a dead one."""
        segments = [*self._segments, *self._emptied, *self._spares]
        self._segments, self._emptied, self._spares = [], [], deque()
        for segment in segments:
            if is_kept and segment.lines:
                segment.map.close()
            else:
                segment.remove()
        if self._lock is not None:
            if not is_kept:
                lock_path(self._directory, self._process_id).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def _care_for(self, emptied: Segment) -> None:
        try:
            if len(self._spares) < MOST_SPARES:
                emptied.renew(self._next_path())
                self._spares.append(emptied)
                return
        except OSError:
            pass  # it is of no use, and another can be made
        emptied.remove()

    def _made(self) -> Segment:
        return Segment(self._next_path())

    def _next_path(self) -> Path:
        self._count += 1
        return self._directory / f"{self._process_id}-{self._count:08}{SEGMENT}"

    def _next(self, length: int) -> Segment:
        if not self._spares or length > SEGMENT_BYTES - 2 * HEAD_BYTES:
            raise StorageUnavailable(f"{self._directory}: there is no room for another line of the journal.")
        full, spare = self._segments[-1], self._spares.popleft()
        self._segments.append(spare)
        if not full.lines:
            self._segments.remove(full)
            self._emptied.append(full)
        self._wants_care()
        return spare


def no_room(directory: Path, error: OSError) -> StorageUnavailable:
    """The failure to make a file."""
    return StorageUnavailable(f"{directory}: the journal of the calls cannot be made: {error.strerror}")


def lock_path(directory: Path, process_id: str) -> Path:
    """The file that a process has locked as long as it lives."""
    return directory / f"{process_id}{LOCK}"


def made_locked(path: Path) -> int:
    """Makes a file that is locked as long as the descriptor is open, and before anybody can find it; raises OSError."""
    hidden = path.with_name(f"{path.name}{UNFINISHED}")
    file = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        hidden.rename(path)
    except BaseException:
        os.close(file)
        raise
    return file


def segment_paths(directory: Path, process_id: str) -> list[Path]:
    """The files of a process, in their order."""
    return sorted(directory.glob(f"{process_id}-*{SEGMENT}"))


def lines(directory: Path, process_id: str) -> Iterator[bytes]:
    """The lines of a process, in their order. The last of a process that was killed while it put it is left out."""
    for path in segment_paths(directory, process_id):
        yield from lines_in(path)


def lines_in(path: Path) -> Iterator[bytes]:
    """The lines of a file, none where it is gone."""
    with suppress(FileNotFoundError):
        yield from lines_of(path.read_bytes())


def all_lines(directory: Path) -> Iterator[bytes]:
    """The lines of all processes, dead or alive: each process's in their order. What cannot be read is left out.

    A file of one that lives may be filled again while they are read; then its new lines come before those of others.
    """
    for path in sorted(directory.glob(f"*{SEGMENT}")):
        with suppress(OSError):  # whoever buries tells of it
            yield from lines_in(path)


def lines_of(content: bytes) -> Iterator[bytes]:
    """The lines of a file."""
    start = 0
    while start + HEAD_BYTES < len(content):
        length, check = HEAD.unpack_from(content, start)
        line = content[start + HEAD_BYTES : start + HEAD_BYTES + length]
        if not length or len(line) != length or crc32(line) != check:
            return
        yield line
        start += HEAD_BYTES + length
