import multiprocessing
import re
import time

import pytest

from rest_bridge.request_id import AT_ONCE, new_request_id


def test_ids_are_all_different_and_begin_with_the_time() -> None:
    before = time.time_ns() // 1_000_000
    ids = [new_request_id() for _ in range(3 * AT_ONCE)]
    after = time.time_ns() // 1_000_000
    assert len({each[12:] for each in ids}) == len(ids)
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)
    assert all(before <= int(each[:12], 16) <= after for each in ids)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_process_that_is_forked_makes_other_ids() -> None:
    new_request_id()  # so that there is randomness left, of which both could make the same use
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def tell() -> None:
        theirs.send([new_request_id()[12:] for _ in range(AT_ONCE)])

    child = context.Process(target=tell)
    child.start()
    found = set(ours.recv())
    child.join()
    assert found.isdisjoint(new_request_id()[12:] for _ in range(AT_ONCE))
