"""Which rounds count, and what is made of them."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from benchmarks.bench.rounds import Plan, Round, gather, quickest, times
from benchmarks.bench.setup import Setup


def played(seconds: list[float]) -> Callable[[], float]:
    left = iter(seconds)
    return lambda: next(left)


def test_a_round_counts_when_its_flanks_are_within_five_per_cent() -> None:
    assert Round(10.0, 10.49, {}).counts
    assert Round(10.49, 10.0, {}).counts
    assert not Round(10.0, 10.51, {}).counts
    assert not Round(10.51, 10.0, {}).counts


def test_times_is_the_median_of_the_rounds_that_count() -> None:
    rounds = [
        Round(8.0, 8.0, {"engine": 2.0, "other": 6.0}),
        Round(8.0, 8.2, {"engine": 1.8, "other": 9.0}),
        Round(8.0, 8.0, {"engine": 1.0, "other": 2.0}),
        Round(8.0, 16.0, {"engine": 0.1, "other": 100.0}),
    ]
    assert times(rounds, "engine", 3) == pytest.approx(4.5)
    assert times(rounds, "engine", 3, against="other") == pytest.approx(3.0)


def test_with_fewer_rounds_that_count_than_are_wanted_there_is_no_figure() -> None:
    good, bad = Round(1.0, 1.0, {"engine": 0.5}), Round(1.0, 2.0, {"engine": 0.5})
    assert times([bad], "engine", 1) is None
    assert times([good, bad, good], "engine", 3) is None
    assert times([good, bad, good, good], "engine", 3) == 2.0
    assert times([good], "engine", 1, against="absent") is None


def test_rounds_are_repeated_until_enough_of_them_count() -> None:
    said: list[str] = []
    rounds = gather(
        played([10.0, 12.0, 12.1, 12.2]), {"a": lambda: {"engine": 3.0}}, Plan(2, 9, 60.0), said.append
    )
    assert [one.counts for one in rounds["a"]] == [False, True, True]
    assert [(one.before, one.after) for one in rounds["a"]] == [(10.0, 12.0), (12.0, 12.1), (12.1, 12.2)]
    assert ["REJECTED" in line for line in said] == [True, False, False]


def test_more_rounds_than_are_wanted_are_taken_while_time_allows() -> None:
    def taken(plan: Plan) -> int:
        ticks = count()
        return len(
            gather(lambda: 1.0, {"a": lambda: {}}, plan, lambda _: None, lambda: float(next(ticks)))["a"]
        )

    assert taken(Plan(2, 9, 60.0)) == 2
    assert taken(Plan(2, 9, 60.0, welcome=5)) == 5
    assert taken(Plan(2, 4, 60.0, welcome=5)) == 4
    assert taken(Plan(2, 9, 3.0, welcome=5)) == 3


def test_kinds_take_turns_with_the_reference_between_them() -> None:
    order: list[str] = []

    def run(name: str) -> Callable[[], dict[str, float]]:
        return lambda: order.append(name) or {name: 1.0}

    def reference() -> float:
        order.append("|")
        return 1.0

    gather(reference, {"a": run("a"), "b": run("b")}, Plan(2, 9, 60.0), lambda _: None)
    assert "".join(order) == "|a|b|a|b|"


def test_a_kind_that_never_counts_ends_at_the_most() -> None:
    slower = (float(2**step) for step in count())
    rounds = gather(lambda: next(slower), {"a": lambda: {}}, Plan(2, 4, 60.0), lambda _: None)
    assert len(rounds["a"]) == 4


def test_no_round_begins_after_the_time_is_over() -> None:
    said: list[str] = []
    ticks = played([0.0, 30.0, 61.0])
    rounds = gather(lambda: 1.0, {"a": lambda: {}}, Plan(5, 9, 60.0), said.append, clock=ticks)
    assert len(rounds["a"]) == 1
    assert said[-1] == "no further round begins after 60 s"


def test_the_quickest_has_the_lowest_median() -> None:
    rounds = [
        Round(1.0, 1.0, {"a": 3.0, "b": 2.0}),
        Round(1.0, 1.0, {"a": 3.0, "b": 9.0}),
        Round(1.0, 1.0, {"a": 3.0, "b": 2.5}),
    ]
    assert quickest(rounds, ["a", "b"]) == "b"


@pytest.mark.parametrize(
    ("size", "full", "its_own"),
    [
        (1.0, Plan(5, 100, 600.0, welcome=9), Plan(5, 100, 600.0, welcome=9)),
        (0.1, Plan(5, 100, 600.0, welcome=9), Plan(1, 10, 600.0, welcome=1)),
        (0.1, Plan(3, 20, 60.0), Plan(1, 3, 60.0)),
    ],
)
def test_a_quick_run_takes_a_share_of_the_rounds(
    tmp_path: Path, size: float, full: Plan, its_own: Plan
) -> None:
    assert Setup(tmp_path, size, lambda _: None).plan(full) == its_own
