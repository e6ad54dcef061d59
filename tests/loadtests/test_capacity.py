"""The search for the highest rate that is sustained."""

import pytest
from loadtests.capacity import Climb


@pytest.mark.parametrize("limit", [0.07, 0.9, 1.0, 3.3, 40.0])
def test_it_ends_near_the_limit_from_either_side(limit: float) -> None:
    climb, tries = Climb(1.0), 0
    while not climb.is_done:
        rate, is_near = climb.next(), climb.is_near
        assert (rate in climb.tried) is is_near
        climb.note(rate, rate <= limit)
        tries += 1
    assert climb.best is not None
    assert climb.best <= limit < climb.best * climb.precision * 1.0001
    assert climb.confirmed == {climb.best}
    assert tries <= 13


def test_a_best_rate_that_is_not_kept_once_more_was_luck() -> None:
    climb = Climb(1.0, tried={1.0: True, 2.0: False, 1.4: True, 1.5: False})
    assert climb.is_near
    assert not climb.is_done
    assert climb.next() == 1.4
    climb.note(1.4, False)
    assert (climb.best, climb.is_near) == (1.0, False)
    climb.note(climb.next(), False)
    climb.note(climb.next(), True)
    assert not climb.is_done
    climb.note(climb.next(), True)
    assert climb.is_done


def test_nothing_is_known_before_a_success() -> None:
    climb = Climb(4.0, tried={4.0: False})
    assert climb.best is None
    assert not climb.is_done
    assert climb.next() == 2.0


def test_a_success_above_a_failure_was_luck() -> None:
    climb = Climb(1.0, tried={1.0: True, 2.0: False, 1.4: False, 1.6: True})
    assert climb.best == 1.0
