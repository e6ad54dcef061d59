"""The short form of `make simulate`, and that its parts are what they claim to be."""

import inspect
from itertools import groupby

import pytest
from benchmarks.simulation import day
from benchmarks.simulation.device import GRAIN, Clock, DeviceFull, SimulatedDevice
from benchmarks.simulation.neighbours import Wish, wishes

from embedfleet.embeddings import memory

HOURS = 1.0


def device(*wanted: Wish, capacity: int = 100) -> SimulatedDevice:
    return SimulatedDevice(capacity * GRAIN, 0, wanted, Clock())


def test_an_hour_fails_no_task_and_keeps_up_with_the_oracle() -> None:
    ours, best, halving = day.budget(HOURS), day.oracle(HOURS), day.halving(HOURS)
    assert ours["tasks_failed_for_memory"] == 0
    assert ours["tasks_finished"] > 3000
    assert ours["tokens_a_second"] >= 0.9 * best["tokens_a_second"]
    assert ours["tokens_a_batch"] >= 0.8 * best["tokens_a_batch"]
    assert halving["tokens_a_second"] < ours["tokens_a_second"]


def test_neighbours_do_make_batches_fail_and_every_failure_has_a_cause() -> None:
    ours = day.budget(3.0)
    assert ours["ooms"].get("neighbour", 0) > 0
    assert sum(ours["ooms"].values()) == ours["splits"]


def test_an_arena_that_is_never_given_back_fails_no_task_either() -> None:
    ours = day.budget(HOURS, gives_back=False)
    assert ours["tasks_failed_for_memory"] == 0
    assert ours["ooms"].get("scattered", 0) > 0


def test_the_day_is_the_same_each_time() -> None:
    assert day.budget(0.2) == day.budget(0.2)


def test_the_budget_knows_no_simulation() -> None:
    for module in (memory.budget, memory.model, memory.unsafe, memory.probing):
        assert "simulat" not in inspect.getsource(module).lower()


def test_neighbours_want_up_to_60_percent_and_never_more() -> None:
    wanted: dict[int, int] = {}
    most = 0
    for _, together in groupby(wishes(16_000_000_000, 86_400), key=lambda wish: wish.at):
        wanted |= {wish.neighbour: wish.bytes for wish in together}
        most = max(most, sum(wanted.values()))
    assert most == 9_600_000_000


def test_the_arena_keeps_what_it_took_and_reuses_it() -> None:
    here = device()
    for _ in range(3):
        here.allocate([30 * GRAIN, 10 * GRAIN])
        here.end_batch()
        assert (here.free(), here.reserved()) == (60 * GRAIN, 40 * GRAIN)
    here.allocate([20 * GRAIN, 20 * GRAIN])  # the first splits the large piece; the second doesn't fit in it
    assert here.reserved() == 60 * GRAIN
    here.end_batch()
    here.give_back()
    assert (here.free(), here.reserved()) == (100 * GRAIN, 0)


@pytest.mark.parametrize(("size", "scattered"), [(55, True), (95, False)])
def test_a_full_device_says_whether_the_bytes_were_there_in_pieces(size: int, scattered: bool) -> None:
    here = device(capacity=90)
    here.allocate([20 * GRAIN, 20 * GRAIN])
    here.end_batch()
    with pytest.raises(DeviceFull) as full:
        here.allocate([size * GRAIN])
    assert full.value.scattered is scattered


def test_a_neighbour_takes_what_is_left_and_the_rest_when_it_can() -> None:
    here = device(Wish(1.0, 0, 70 * GRAIN), Wish(5.0, 0, 0))
    here.allocate([60 * GRAIN])
    here.end_batch()
    here.advance(2.0)
    assert (here.neighbours, here.free()) == (40 * GRAIN, 0)
    here.give_back()
    here.advance(1.0)
    assert here.neighbours == 70 * GRAIN
    here.advance(3.0)
    assert (here.neighbours, here.free()) == (0, 100 * GRAIN)
