"""A circuit opens, half opens and closes."""

from gateway_core.config import CircuitConfig
from gateway_core.routing.circuit import Circuit

CONFIG = CircuitConfig(window_seconds=30, failures=5, failure_rate=0.5, open_seconds=10)


def opened(at: float = 0) -> Circuit:
    circuit = Circuit(CONFIG)
    for _ in range(CONFIG.failures):
        circuit.failed(at)
    assert circuit.state == "open"
    return circuit


def test_it_stays_closed_below_the_number_of_failures() -> None:
    circuit = Circuit(CONFIG)
    for _ in range(4):
        circuit.failed(1)
    assert circuit.may_pass(1)
    assert not circuit.is_quiet
    circuit.failed(1)
    assert not circuit.may_pass(1)


def test_it_stays_closed_below_the_rate() -> None:
    circuit = Circuit(CONFIG)
    for _ in range(50):
        circuit.failed(1)
        circuit.succeeded(1)
        circuit.succeeded(1)
    assert circuit.state == "closed"


def test_a_call_that_went_well_is_remembered_for_a_window() -> None:
    circuit = Circuit(CONFIG)
    assert not circuit.was_well(1)
    circuit.succeeded(1)
    assert circuit.was_well(30.9)
    assert not circuit.was_well(31)


def test_failures_of_another_window_do_not_count() -> None:
    circuit = Circuit(CONFIG)
    for at in range(0, 400, 31):
        circuit.failed(at)
    assert circuit.state == "closed"
    circuit.succeeded(500)
    assert circuit.is_quiet


def test_one_call_at_a_time_tries_after_the_time() -> None:
    circuit = opened()
    assert not circuit.may_pass(9.9)
    assert circuit.shown(9.9) == "open"
    assert circuit.may_pass(10)
    assert circuit.shown(10) == "half_open"
    circuit.passes(10)
    assert not circuit.may_pass(10)


def test_a_success_of_the_one_that_tries_closes() -> None:
    circuit = opened()
    circuit.passes(10)
    circuit.succeeded(11)
    assert circuit.state == "closed"
    assert circuit.is_quiet
    assert circuit.may_pass(11)


def test_a_failure_of_the_one_that_tries_opens_for_the_same_time_again() -> None:
    circuit = opened()
    circuit.passes(10)
    circuit.failed(12)
    assert not circuit.may_pass(21.9)
    assert circuit.may_pass(22)
    assert circuit.opened_at == 0


def test_one_that_tries_and_hangs_does_not_keep_others_from_trying() -> None:
    circuit = opened()
    circuit.passes(10)
    assert not circuit.may_pass(19)
    assert circuit.may_pass(20)


def test_one_that_tried_and_was_cancelled_leaves_its_place_to_another() -> None:
    circuit = opened()
    circuit.passes(10)
    circuit.left()
    assert circuit.may_pass(10)


def test_failures_of_calls_that_passed_before_do_not_keep_it_open() -> None:
    circuit = opened()
    circuit.failed(9)
    assert circuit.may_pass(10)
