"""What a process holds, as the system tells it (proc(5))."""

from contextlib import suppress
from pathlib import Path


def rss_bytes(pid: int) -> int:
    """Resident memory now."""
    return _memory(pid, "VmRSS")


def peak_rss_bytes(pid: int) -> int:
    """The most resident memory that there ever was."""
    return _memory(pid, "VmHWM")


def open_file_count(pid: int) -> int:
    """Open file descriptors."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def open_socket_count(pid: int) -> int:
    """Open sockets: what calls have, while the database and the journal open files as they need them."""
    count = 0
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            count += path.readlink().name.startswith("socket:")
    return count


def _memory(pid: int, name: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (kibibytes,) = (line.split()[1] for line in status.splitlines() if line.startswith(f"{name}:"))
    return int(kibibytes) * 1024
