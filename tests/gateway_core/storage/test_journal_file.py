import errno
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway_core.storage import journal_file
from gateway_core.storage.errors import StorageUnavailable
from gateway_core.storage.journal import CHECKPOINT, JOURNALED
from gateway_core.storage.journal_file import HEAD, JournalFile, all_lines, lines, lines_in, lines_of, segment_paths
from gateway_core.storage.journal_left import dead_journals, locked
from gateway_core.storage.journal_line import note_line, opened_line, told_by

LINE = b"x" * 100


def nothing() -> None:
    """Nobody cares."""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that ten lines fill, with what says that there is no more."""
    monkeypatch.setattr(journal_file, "SEGMENT_BYTES", 10 * (HEAD.size + len(LINE)) + HEAD.size)
    monkeypatch.setattr(journal_file, "SPARE_LEFT", 5 * (HEAD.size + len(LINE)))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[JournalFile]:
    opened = JournalFile(tmp_path, "a", nothing)
    opened.open()
    yield opened
    opened.close(is_kept=False)


def test_lines_are_there_for_others_as_soon_as_they_are_put(tmp_path: Path, journal: JournalFile) -> None:
    journal.put(b"one")
    journal.put(b"two")
    assert list(lines(tmp_path, "a")) == [b"one", b"two"]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_journal_that_is_made_is_never_seen_as_that_of_a_dead_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    flock = fcntl.flock

    def looked_at(descriptor: int, how: int) -> None:
        """Another process looks around at the worst moment: before the file is locked."""
        monkeypatch.setattr(fcntl, "flock", flock)
        for dead in dead_journals(tmp_path):
            seen.append(dead.process_id)
            dead.close(is_kept=False)
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", looked_at)
    journal = JournalFile(tmp_path, "a", nothing)
    journal.open()
    assert seen == []
    assert [path.name for path in tmp_path.glob("*.lock*")] == ["a.lock"]
    assert list(dead_journals(tmp_path)) == []
    journal.close(is_kept=False)
    assert list(tmp_path.iterdir()) == []


def test_lines_outlive_a_process_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from gateway_core.storage.journal_file import JournalFile;"
        "journal = JournalFile(Path(sys.argv[1]), 'child', lambda: None); journal.open();"
        "[journal.put(b'%d' % number) for number in range(1000)]; print('put', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"put\n"
        assert list(dead_journals(tmp_path)) == []
        os.kill(child.pid, signal.SIGKILL)
    (dead,) = dead_journals(tmp_path)
    assert list(dead.lines()) == [b"%d" % number for number in range(1000)]
    dead.close(is_kept=True)
    (again,) = dead_journals(tmp_path)
    again.close(is_kept=False)
    assert list(tmp_path.iterdir()) == []


def test_a_journal_that_somebody_sees_to_is_nobody_elses(tmp_path: Path) -> None:
    left = JournalFile(tmp_path, "a", nothing)
    left.open()
    left.put(LINE)
    left.close(is_kept=True)
    (dead,) = dead_journals(tmp_path)
    assert list(dead_journals(tmp_path)) == []
    assert list(dead_journals(tmp_path, {"a"})) == []
    dead.close(is_kept=False)


@pytest.mark.parametrize("cut", range(1, HEAD.size + len(LINE)))
def test_a_line_that_was_being_put_is_left_out_and_those_before_it_are_not(journal: JournalFile, cut: int) -> None:
    segment = journal.put(b"whole")
    end = segment.end
    journal.put(LINE)
    content = bytes(segment.map[: end + cut]) + bytes(len(segment.map) - end - cut)
    assert list(lines_of(content)) == [b"whole"]


def test_a_damaged_line_ends_its_file(journal: JournalFile) -> None:
    segment = journal.put(b"whole")
    start = segment.end
    journal.put(LINE)
    content = bytearray(segment.map)
    content[start + HEAD.size + 3] ^= 1
    assert list(lines_of(bytes(content))) == [b"whole"]


@pytest.mark.usefixtures("small")
def test_files_that_nobody_needs_are_filled_again(tmp_path: Path, journal: JournalFile) -> None:
    files: set[int] = set()
    for number in range(100):
        segments = [journal.put(b"%0100d" % number) for _ in range(7)]
        journal.care()
        assert list(lines(tmp_path, "a"))[-7:] == [b"%0100d" % number] * 7
        for segment in segments:
            journal.release(segment)
        files |= {path.stat().st_ino for path in tmp_path.glob("*.calls")}
    journal.care()
    assert len(files) <= 4
    assert len(list(tmp_path.glob("*.calls"))) <= 3
    assert len(journal) == 1


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("length", [1, 50, len(LINE)])
def test_what_was_in_a_file_before_is_not_there_when_it_is_filled_again(
    tmp_path: Path, journal: JournalFile, length: int
) -> None:
    files = set()
    for _ in range(4):
        put = [journal.put(LINE) for _ in range(10)]
        journal.care()
        files.add(put[0].path.stat().st_ino)
        for segment in put:
            journal.release(segment)
        journal.care()
    filled = journal.put(b"y" * length)
    assert filled.path.stat().st_ino in files
    assert list(lines_in(filled.path)) == [b"y" * length]
    assert journal.put(b"z" * length) is filled
    assert list(lines_in(filled.path)) == [b"y" * length, b"z" * length]
    # What comes next is empty for whoever looks.
    journal.care()
    (*_, spare) = segment_paths(tmp_path, "a")
    assert list(lines_in(spare)) == []


@pytest.mark.usefixtures("small")
def test_a_file_that_cannot_be_filled_again_is_deleted_and_another_made(
    tmp_path: Path, journal: JournalFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "rename", refused)
    for _ in range(5):
        put = [journal.put(LINE) for _ in range(10)]
        journal.care()
        assert list(lines(tmp_path, "a")) == [LINE] * 10
        for segment in put:
            journal.release(segment)
    journal.care()
    assert journal.has_spare
    assert len(list(tmp_path.glob("*.calls"))) == 2


@pytest.mark.usefixtures("small")
def test_more_files_than_come_next_are_deleted(tmp_path: Path, journal: JournalFile) -> None:
    put = []
    for _ in range(60):
        put.append(journal.put(LINE))
        journal.care()
    assert len(list(tmp_path.glob("*.calls"))) == 7
    for segment in put:
        journal.release(segment)
    journal.care()
    assert len(list(tmp_path.glob("*.calls"))) == 1 + journal_file.MOST_SPARES


@pytest.mark.usefixtures("small")
def test_lines_are_in_their_order_over_files(tmp_path: Path, journal: JournalFile) -> None:
    for _ in range(3):  # the later times over files that were filled before, too
        expected = [b"%0100d" % number for number in range(200)]
        put = []
        for line in expected:
            put.append(journal.put(line))
            journal.care()
        assert list(lines(tmp_path, "a"))[-200:] == list(all_lines(tmp_path))[-200:] == expected
        assert len(journal) in {20, 21}
        for segment in put:
            journal.release(segment)
        journal.care()


@pytest.mark.usefixtures("small")
def test_a_journal_without_a_spare_file_says_that_it_is_full_before_it_is(journal: JournalFile) -> None:
    for _ in range(10):
        assert journal.has_room
        journal.put(LINE)
    for number in range(10):  # the spare one, and nobody makes another
        journal.put(LINE)
        assert journal.has_room == (number < 4)
    with pytest.raises(StorageUnavailable, match="no room"):
        journal.put(LINE)
    journal.care()
    journal.put(LINE)
    assert journal.has_room


@pytest.mark.usefixtures("small")
def test_files_are_not_made_without_end(journal: JournalFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_file, "MOST_SEGMENTS", 2)
    for _ in range(11):
        journal.put(LINE)
    with pytest.raises(StorageUnavailable, match="2 files are full"):
        journal.care()


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    journal = JournalFile(tmp_path, "a", nothing)
    with pytest.raises(StorageUnavailable) as told:
        journal.open()
    assert "No space left on device" in str(told.value.args)
    assert list(tmp_path.glob("*.calls")) == []
    journal.close(is_kept=False)


@pytest.mark.parametrize("how", ["absent", "refused"])
def test_files_have_their_room_where_the_system_cannot_reserve_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    if how == "absent":
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", refused)
    journal = JournalFile(tmp_path, "a", nothing)
    journal.open()
    journal.put(LINE)
    assert {path.stat().st_blocks * 512 >= journal_file.SEGMENT_BYTES for path in tmp_path.glob("*.calls")} == {True}
    journal.close(is_kept=False)


def test_a_lock_that_somebody_has_deleted_meanwhile_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = JournalFile(tmp_path, "a", nothing)
    left.open()
    left.close(is_kept=True)
    path = tmp_path / "a.lock"
    flock = fcntl.flock

    def replaced(file: int, operation: int) -> None:
        path.unlink()
        path.touch()
        flock(file, operation)

    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", replaced)
        assert list(dead_journals(tmp_path)) == []
    (dead,) = dead_journals(tmp_path)
    dead.close(is_kept=False)
    assert locked(path) is None
    assert list(tmp_path.iterdir()) == []


def test_what_was_noted_counts_while_its_call_is_put_again() -> None:
    opening = (*range(len(JOURNALED) - 1), 0)
    opened = opened_line(("a", *opening[1:]))
    noted = note_line(("a", "lab", *range(len(CHECKPOINT) - 2)))
    (call,) = told_by([opened, noted, opened]).calls.values()
    assert call["provider"] == "lab"


def test_a_closed_journal_takes_nothing(tmp_path: Path) -> None:
    journal = JournalFile(tmp_path, "a", nothing)
    journal.open()
    journal.close(is_kept=False)
    with pytest.raises(StorageUnavailable, match="closed"):
        journal.put(LINE)
    assert list(tmp_path.iterdir()) == []


def test_a_place_where_nothing_can_be_written_is_told_with_what_to_do_about_it(tmp_path: Path) -> None:
    (tmp_path / "calls").touch()  # as if it were on a disk that cannot be written on
    with pytest.raises(StorageUnavailable) as caught:
        JournalFile(tmp_path / "calls", "a", nothing).open()
    assert "`data_directory`" in str(caught.value)
    assert "`ledger_journal: database`" in str(caught.value)
