from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_core.metering.journal import Journal
from gateway_core.storage.journal import CHECKPOINT, JOURNALED, Entry, Row, told

PROCESS = "p"


def opened(call: int) -> Row:
    return (str(call), *(None,) * (len(JOURNALED) - 1))


def checkpoint(call: int, delivered: int) -> Row:
    return (str(call), *(None,) * (len(CHECKPOINT) - 2), delivered)


def write(journal: Journal, new: list[Row], noted: list[Row]) -> None:
    entry = journal.entry(new, noted)
    assert entry is not None
    journal.written(entry)


def test_a_row_may_be_deleted_when_all_its_calls_have_ended() -> None:
    journal = Journal(PROCESS)
    write(journal, [opened(1), opened(2)], [])
    journal.end(["1"])
    assert journal.emptied() == []
    journal.end(["2"])
    assert journal.emptied() == [(PROCESS, 1)]
    assert journal.emptied() == []


def test_a_checkpoint_stands_for_the_one_before_it() -> None:
    journal = Journal(PROCESS)
    write(journal, [opened(1)], [])
    for number in range(100):
        write(journal, [], [checkpoint(1, number)])
    assert journal.emptied() == [(PROCESS, number) for number in range(2, 101)]
    journal.end(["1"])
    assert sorted(journal.emptied()) == [(PROCESS, 1), (PROCESS, 101)]


def test_nothing_is_written_of_a_call_that_has_ended() -> None:
    journal = Journal(PROCESS)
    write(journal, [opened(1)], [])
    journal.end(["1"])
    journal.end(["1"])
    assert journal.entry([], [checkpoint(1, 5)]) is None


def test_what_could_not_be_deleted_is_told_again() -> None:
    journal = Journal(PROCESS)
    write(journal, [opened(1)], [])
    journal.end(["1"])
    journal.keep(journal.emptied())
    assert journal.emptied() == [(PROCESS, 1)]


def test_a_row_that_may_not_have_been_written_is_replaced_by_the_next_and_takes_nothing_with_it() -> None:
    journal = Journal(PROCESS)
    write(journal, [opened(1)], [])
    write(journal, [], [checkpoint(1, 5)])
    assert journal.entry([], [checkpoint(1, 9)]) is not None
    journal.lost()
    assert not journal.has_emptied
    again = journal.entry([opened(2)], [])
    assert again is not None
    assert again.number == 3


def test_a_row_that_may_not_have_been_written_is_deleted_where_no_other_comes() -> None:
    journal = Journal(PROCESS)
    assert journal.entry([opened(1)], []) is not None
    journal.lost()
    journal.give_up()
    journal.give_up()
    assert journal.emptied() == [(PROCESS, 1)]
    after = journal.entry([opened(2)], [])
    assert after is not None
    assert after.number == 2


def lose(journal: Journal, entry: Entry | None, *, for_good: bool) -> None:
    if entry is not None:
        journal.lost()
    if for_good:
        journal.give_up()


@settings(max_examples=300)
@given(st.data())
def test_the_rows_that_are_left_tell_of_every_call_that_is_open(data: st.DataObject) -> None:
    """Random openings, checkpoints, ends and failures: what a restart finds is what was open, as it was last told."""
    journal, table = Journal(PROCESS), dict[int, Entry]()
    last: dict[int, int | None] = {}
    count = 0
    for step in range(data.draw(st.integers(1, 25))):
        new = list(range(count, count + data.draw(st.integers(0, 3))))
        count += len(new)
        noted = [call for call in last if data.draw(st.booleans())]
        entry = journal.entry([opened(call) for call in new], [checkpoint(call, step) for call in noted])
        emptied = journal.emptied()
        became = data.draw(st.sampled_from(["written", "written", "written and not told", "not written"]))
        if became != "not written":
            if entry is not None:
                table[entry.number] = entry
            for _, number in emptied:
                table.pop(number, None)
        if became == "written":
            if entry is not None:
                journal.written(entry)
            last |= dict.fromkeys(new) | dict.fromkeys(noted, step)
            for call in [call for call in last if data.draw(st.booleans())]:
                journal.end([str(call)])
                del last[call]
        else:
            journal.keep(emptied)
            lose(journal, entry, for_good=data.draw(st.booleans()))
    found = told(entry.row[2] for _, entry in sorted(table.items()))
    for call, delivered in last.items():
        # What was not told to be written may be there, until it is deleted.
        assert (found[str(call)].get("delivered_tokens") or -1) >= (-1 if delivered is None else delivered or -1)
