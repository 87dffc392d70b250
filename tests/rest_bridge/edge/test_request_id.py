import multiprocessing
import time
import uuid

import pytest

from rest_bridge.request_id import AT_ONCE, new_request_id


def test_ids_are_all_different_and_begin_with_the_time() -> None:
    before = time.time_ns() // 1_000_000
    ids = [new_request_id() for _ in range(3 * AT_ONCE)]
    after = time.time_ns() // 1_000_000
    assert len({each[13:] for each in ids}) == len(ids)
    assert all(uuid.UUID(each).version == 7 and str(uuid.UUID(each)) == each for each in ids)
    assert {uuid.UUID(each).variant for each in ids} == {uuid.RFC_4122}
    assert all(before <= uuid.UUID(each).int >> 80 <= after for each in ids)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_process_that_is_forked_makes_other_ids() -> None:
    new_request_id()  # so that there is randomness left, of which both could make the same use
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def tell() -> None:
        theirs.send([new_request_id()[13:] for _ in range(AT_ONCE)])

    child = context.Process(target=tell)
    child.start()
    found = set(ours.recv())
    child.join()
    assert found.isdisjoint(new_request_id()[13:] for _ in range(AT_ONCE))
