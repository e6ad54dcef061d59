from hypothesis import given
from hypothesis import strategies as st

from embedfleet.embeddings.batching import next_batch, padded_tokens

waiting_lengths = st.lists(st.integers(1, 256), max_size=200)


def test_nothing_waits() -> None:
    assert next_batch([], 100) == []


def test_rows_of_like_length_join_the_oldest() -> None:
    assert next_batch([100, 5, 99, 6, 101], max_tokens=303) == [0, 2, 4]


def test_a_row_over_the_budget_goes_alone() -> None:
    assert next_batch([256, 10], max_tokens=100) == [0]


@given(waiting_lengths, st.integers(1, 4096), st.integers(1, 64))
def test_a_batch_has_the_oldest_row_keeps_the_budget_and_the_window(
    lengths: list[int], budget: int, window: int
) -> None:
    batch = next_batch(lengths, budget, window)
    assert batch == sorted(set(batch))
    assert bool(batch) == bool(lengths)
    if batch:
        assert batch[0] == 0
        assert batch[-1] < max(window, 1)
    if len(batch) > 1:
        assert padded_tokens([lengths[row] for row in batch]) <= budget


@given(waiting_lengths, st.integers(1, 4096))
def test_every_row_is_encoded_within_as_many_batches_as_rows_are_before_it(
    lengths: list[int], budget: int
) -> None:
    waiting = list(enumerate(lengths))
    seen: list[int] = []
    rounds = 0
    while waiting:
        batch = set(next_batch([length for _, length in waiting], budget))
        assert waiting[0][0] not in seen
        seen += [waiting[at][0] for at in batch]
        waiting = [row for at, row in enumerate(waiting) if at not in batch]
        rounds += 1
    assert sorted(seen) == list(range(len(lengths)))
    assert rounds <= len(lengths)


def test_padding_of_mixed_documents_is_far_below_that_of_arrival_order() -> None:
    lengths = [10, 250] * 128
    waiting, padded = list(lengths), 0
    while waiting:
        batch = set(next_batch(waiting, 4096))
        padded += padded_tokens([waiting[at] for at in batch])
        waiting = [length for at, length in enumerate(waiting) if at not in batch]
    in_order = sum(padded_tokens(lengths[at : at + 16]) for at in range(0, len(lengths), 16))
    assert padded <= 1.1 * sum(lengths) < in_order
