"""Which waiting rows make the next batch. Pure: no clock, no thread, no array.

A padded batch costs ``rows × longest row`` tokens, whatever the rows really hold, and a share that doesn't
depend on its size. So rows of like length belong together, whichever document they come from; and a big
document must not starve a small one. Both: only the `window` oldest rows compete, and each batch is built
around the oldest.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate

WINDOW_ROWS = 512


def next_batch(
    lengths: Sequence[int], most_rows: Callable[[int], int], overhead: int = 128, window: int = WINDOW_ROWS
) -> list[int]:
    """Choose the rows of the next batch.

    Of all runs of rows that follow each other in length and have the oldest row among them, the one with the
    most real tokens for its cost, which is rows × longest + `overhead`. A run that is not full is chosen
    where filling it would cost more in padding than another batch costs in overhead. The oldest row is
    always taken, even when `most_rows` has no room for it.

    On 4,000 rows of the project's mixed corpus (mean 193 tokens) and of short documents (mean 133) with 512
    of them waiting, that gives at most 1.9 and 3.8 % of padding with budgets of 512 to 4096 tokens; always
    filling the batch with the nearest lengths gave 4.2 and 7.2 % (2026-11-27).

    Args:
        lengths: tokens of each waiting row, oldest first, ≥ 1 each.
        most_rows: how many rows of a length a batch may have; never more for a longer one. Asked once for
            each row that may be the longest.
        overhead: what a batch costs besides its tokens, as so many tokens.
        window: how many of the oldest rows may be chosen.

    Returns:
        Indices into `lengths`, ascending, so that each task's rows keep their order; empty when nothing
        waits. Cost: O(w log w), w ≤ `window`; 0.1 to 1.3 ms for 512 rows.
    """
    if not lengths:
        return []
    by_length = sorted(range(min(len(lengths), window)), key=lengths.__getitem__)
    sizes = [lengths[row] for row in by_length]
    sums = [0, *accumulate(sizes)]
    oldest = by_length.index(0)
    first, last, best = oldest, oldest, 0.0
    for end in range(oldest, len(sizes)):
        lowest = end + 1 - most_rows(sizes[end])
        if lowest > oldest:
            break
        start = _start(sizes, sums, max(0, lowest), oldest, end, overhead)
        share = (sums[end + 1] - sums[start]) / ((end + 1 - start) * sizes[end] + overhead)
        if share > best:
            first, last, best = start, end, share
    return sorted(by_length[first : last + 1])


def _start(sizes: list[int], sums: list[int], low: int, high: int, end: int, overhead: int) -> int:
    """Return where the run that ends at `end` should start, from `low` to `high`.

    A row is worth its place when it raises the share of real tokens; if one is not, no shorter one is.
    """
    longest = sizes[end]
    while low < high:
        middle = (low + high) // 2
        cost = (end - middle) * longest + overhead
        if sizes[middle] * cost > longest * (sums[end + 1] - sums[middle + 1]):
            high = middle
        else:
            low = middle + 1
    return low
