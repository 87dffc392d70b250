"""Processes of a run: started on chosen cores, measured from outside, ended by their own ids."""

import os
import resource
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GRACE_SECONDS = 5.0
"""Between SIGTERM and SIGKILL."""
QUIET_SHARE = 0.05
QUIET_SECONDS = 0.3
"""A server has settled when it used less than a share of a core for a while."""


class Ended(Exception):
    """A process that should be measured has ended."""


class DidNotStart(Exception):
    """A process of the run was not ready in time, or ended."""


@dataclass(frozen=True)
class Cores:
    """Which cores the servers under test and the load with the mock upstream run on; empty means all."""

    server: frozenset[int]
    load: frozenset[int]

    @staticmethod
    def of_this_machine() -> "Cores":
        """One core for the server under test, the next for load and mock; no pinning with a single core."""
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            return Cores(frozenset(), frozenset())
        return Cores(frozenset(cores[:1]), frozenset(cores[1:2]))

    @staticmethod
    def for_workers(count: int) -> "Cores":
        """So many cores for the workers; load and mock have two others, or share them where there are not as many."""
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < count + 2:
            return Cores(frozenset(cores[:count]), frozenset(cores[:count]))
        return Cores(frozenset(cores[:count]), frozenset(cores[count : count + 2]))

    @property
    def all(self) -> frozenset[int]:
        """Both."""
        return self.server | self.load


@dataclass(frozen=True)
class Surroundings:
    """Where a process runs."""

    cores: frozenset[int]
    """Empty: all."""
    environment: Mapping[str, str]
    directory: Path = ROOT


def most_open_files() -> int:
    """The hard limit of open files, to which each process of a run raises its own."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def _enter(cores: frozenset[int], open_files: int) -> None:
    """In the new process, before its program begins."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))
    if cores:
        os.sched_setaffinity(0, cores)


@contextmanager
def running(
    command: list[str], surroundings: Surroundings, log: Path, piped: bool = False
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process in a session of its own; what it writes goes to the log, or, piped, what it writes to stdout to us.

    It is ended on the way out, with what it started: SIGTERM, and SIGKILL after a grace.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=surroundings.directory,
            env=dict(surroundings.environment),
            stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
            stdout=subprocess.PIPE if piped else output,
            stderr=output,
            start_new_session=True,
            preexec_fn=partial(_enter, surroundings.cores, most_open_files()),
        )
    try:
        yield process
    finally:
        _end(process)


def line_of(process: "subprocess.Popen[bytes]", job: str, patience_seconds: float) -> bytes:
    """What a piped process answers to a line, a line as well; raises DidNotStart where none comes in time."""
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None
    stdin.write(job.encode() + b"\n")
    stdin.flush()
    readable, _, _ = select.select([stdout], [], [], patience_seconds)
    line = stdout.readline() if readable else b""
    if not line:
        raise DidNotStart(f"the load generator does not answer (it has {patience_seconds:.0f} s)")
    return line


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process that leads a session of its own, and then what is left of that session."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def free_port() -> int:
    """A port of the loopback that is free at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def family(pid: int) -> list[int]:
    """The process and its descendants, from /proc/<pid>/stat."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                # The program's name, in parentheses, may hold anything; the parent's id is second after it.
                fields = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            children.setdefault(int(fields[1]), []).append(int(entry))
    found = [pid]
    for member in found:
        found.extend(children.get(member, ()))
    return found


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its descendants, user and system, all threads, in seconds; raises Ended.

    The sum of utime and stime of /proc/<pid>/stat, read through the process's CPU clock, which counts in nanoseconds
    where the file rounds to 10 ms. The number of that clock is what clock_getcpuclockid(3) returns on Linux.
    """
    return sum(cpu_seconds_of_each(pid).values())


def cpu_seconds_of_each(pid: int) -> dict[int, float]:
    """CPU time of a process and of each of its descendants, by process id, in seconds; raises Ended."""
    found = {}
    for member in family(pid):
        try:
            found[member] = time.clock_gettime(~member << 3 | 2)
        except OSError as error:
            if member == pid:
                raise Ended(f"process {pid} has ended") from error
    return found


def machine_cpu_seconds() -> float:
    """CPU time of everything on the machine, from /proc/stat, which counts in hundredths of a second."""
    user, nice, system, _idle, _waiting, irq, softirq, steal = (
        int(field) for field in Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
    )
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def settle(pid: int, seconds: float) -> None:
    """Waits until a process and its descendants have next to nothing more to do, or so long; raises Ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        before = cpu_seconds(pid)
        time.sleep(QUIET_SECONDS)
        if cpu_seconds(pid) - before < QUIET_SHARE * QUIET_SECONDS:
            break


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants, in bytes, from /proc/<pid>/statm; pages shared count twice."""
    pages = 0
    for member in family(pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            pages += int(Path(f"/proc/{member}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
