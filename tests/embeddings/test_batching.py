import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet.embeddings.batching import next_batch

waiting_lengths = st.lists(st.integers(1, 256), max_size=200)
overheads = st.integers(0, 5000)


def within(budget: int) -> Callable[[int], int]:
    return lambda length: budget // length


def padded_tokens(lengths: Sequence[int]) -> int:
    """Return what a batch of these rows costs: rows × longest."""
    return len(lengths) * max(lengths, default=0)


def padding(stream: Sequence[int], budget: int, window: int = 512) -> float:
    """Return the share of padding when so many rows wait all the time."""
    waiting, coming, padded = list(stream[:window]), list(stream[window:]), 0
    while coming:
        batch = set(next_batch(waiting, within(budget), window=window))
        padded += padded_tokens([waiting[at] for at in batch])
        waiting = [length for at, length in enumerate(waiting) if at not in batch]
        waiting += coming[: len(batch)]
        del coming[: len(batch)]
    return 1 - (sum(stream) - sum(waiting)) / padded


def test_nothing_waits() -> None:
    assert next_batch([], within(100)) == []


def test_rows_of_like_length_join_the_oldest() -> None:
    assert next_batch([100, 5, 99, 6, 101], within(303)) == [0, 2, 4]


def test_a_row_over_the_budget_goes_alone() -> None:
    assert next_batch([256, 10], within(100)) == [0]


def test_a_batch_is_filled_where_that_costs_less_than_another_batch() -> None:
    assert next_batch([100, 60], within(1000), overhead=200) == [0, 1]
    assert next_batch([100, 60], within(1000), overhead=5) == [0]


@given(waiting_lengths, st.integers(1, 4096), st.integers(1, 64), overheads)
def test_a_batch_has_the_oldest_row_keeps_the_budget_and_the_window(
    lengths: list[int], budget: int, window: int, overhead: int
) -> None:
    batch = next_batch(lengths, within(budget), overhead, window)
    assert batch == sorted(set(batch))
    assert bool(batch) == bool(lengths)
    if batch:
        assert batch[0] == 0
        assert batch[-1] < window
    if len(batch) > 1:
        assert padded_tokens([lengths[row] for row in batch]) <= budget


@given(st.lists(st.integers(1, 256), min_size=1, max_size=40), st.integers(1, 4096), overheads)
def test_no_run_around_the_oldest_row_has_more_real_tokens_for_its_cost(
    lengths: list[int], budget: int, overhead: int
) -> None:
    def share(rows: Sequence[int]) -> float:
        return sum(lengths[row] for row in rows) / (padded_tokens([lengths[row] for row in rows]) + overhead)

    by_length = sorted(range(len(lengths)), key=lengths.__getitem__)
    runs = [by_length[a:b] for b in range(len(lengths) + 1) for a in range(b) if 0 in by_length[a:b]]
    fitting = [run for run in runs if padded_tokens([lengths[row] for row in run]) <= budget]
    chosen = share(next_batch(lengths, within(budget), overhead))
    assert chosen >= max(map(share, fitting), default=0.0) * (1 - 1e-9)


@given(waiting_lengths, st.lists(st.integers(1, 256), max_size=100), st.integers(1, 4096), overheads)
def test_a_row_waits_for_no_more_batches_than_rows_were_before_it_whatever_comes_later(
    lengths: list[int], later: list[int], budget: int, overhead: int
) -> None:
    waiting = list(enumerate(lengths))
    coming = list(enumerate(later, len(lengths)))
    served: dict[int, int] = {}
    rounds = 0
    while waiting:
        batch = set(next_batch([length for _, length in waiting], within(budget), overhead))
        served |= {waiting[at][0]: rounds for at in batch}
        waiting = [row for at, row in enumerate(waiting) if at not in batch] + coming[:2]
        del coming[:2]
        rounds += 1
    assert len(served) == len(lengths) + len(later) - len(coming)
    assert all(batch <= row for row, batch in served.items())


@pytest.mark.parametrize("budget", [512, 1024, 2048, 4096, 8192])
def test_padding_with_512_rows_waiting_is_below_4_and_11_percent(budget: int) -> None:
    # Lengths as in two real corpora: chunks of 1,000 characters in ten languages, and short documents, of
    # which many have 6 to 60 tokens.
    dice = random.Random(5)
    deciles = [6, 39, 78, 155, 231, 256, 256, 256, 256, 256, 256]

    def chunk() -> int:
        at = dice.randrange(10)
        return dice.randint(deciles[at], deciles[at + 1])

    mixed = [chunk() for _ in range(3000)]
    short = [dice.randint(6, 60) if dice.random() < 0.4 else chunk() for _ in range(3000)]
    assert padding(mixed, budget) <= 0.04
    assert padding(short, budget) <= 0.11
