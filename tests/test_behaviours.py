"""Every promise has a test, and every number in a test's name is a promise."""

from tests.behaviours import OPEN, proofs
from tests.promises import BEHAVIOURS, FAULTS

NUMBERS = [promise.number for promise in (*BEHAVIOURS, *FAULTS)]


def test_every_promise_is_proven_but_those_that_are_said_to_be_open() -> None:
    assert set(NUMBERS) - proofs().keys() - OPEN == set()


def test_every_number_in_the_name_of_a_test_is_a_promise() -> None:
    assert proofs().keys() <= set(NUMBERS)


def test_there_are_as_many_promises_as_were_made() -> None:
    assert (len(BEHAVIOURS), len(FAULTS)) == (66, 22)
