"""Arrivals come at their rate, whatever its shape."""

import itertools

import pytest
from loadtests.arrivals import SPIKE_TIMES, Load


def test_a_steady_rate_has_even_gaps_and_the_whole_count() -> None:
    at = list(Load("steady", 1.5, 60).arrivals())
    assert len(at) == 90
    gaps = [after - before for before, after in itertools.pairwise(at)]
    assert gaps == pytest.approx([1 / 1.5] * 89)
    assert at[0] == pytest.approx(0.5 / 1.5)


def test_more_arrivals_than_steps_are_not_lost() -> None:
    assert len(list(Load("steady", 1000, 2).arrivals())) == 2000


def test_a_spike_is_five_times_the_rate_for_a_sixth_of_the_time() -> None:
    at = list(Load("spike", 2, 60).arrivals())
    in_spike = [one for one in at if 20 <= one < 30]
    assert len(in_spike) == pytest.approx(2 * SPIKE_TIMES * 10, abs=1)
    assert len(at) - len(in_spike) == pytest.approx(2 * 50, abs=1)


def test_a_soak_has_waves_around_its_rate() -> None:
    at = list(Load("soak", 2, 300).arrivals())
    assert len(at) == pytest.approx(600, abs=1)
    for wave in (0, 100, 200):
        high, low = (
            len([one for one in at if start <= one < start + 20]) for start in (wave + 15, wave + 65)
        )
        assert high > 2 * low


def test_a_search_without_end_yields_on() -> None:
    first = list(itertools.islice(Load("steady", 5, float("inf")).arrivals(), 3))
    assert first == pytest.approx([0.1, 0.3, 0.5])
