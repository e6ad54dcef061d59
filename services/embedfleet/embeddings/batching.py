"""Which waiting rows make the next batch. Pure: no clock, no thread, no array.

A padded batch costs ``rows × longest row`` tokens, whatever the rows really hold. So rows of like
length belong together, whichever document they come from; and a big document must not starve a
small one. Both: only the `window` oldest rows compete, and each batch is built around the oldest.
"""

from collections.abc import Sequence


def next_batch(lengths: Sequence[int], max_tokens: int, window: int = 512) -> list[int]:
    """Choose the rows of the next batch.

    The oldest row is always taken, even when it is over the budget alone; then the rows nearest to
    it in length, as long as rows × longest stays within the budget. Cost: O(w log w), w ≤ `window`.

    Args:
        lengths: tokens of each waiting row, oldest first, ≥ 1 each.
        max_tokens: budget of a batch in tokens, padding included.
        window: how many of the oldest rows may be chosen.

    Returns:
        Indices into `lengths`, ascending, so that each task's rows keep their order; empty when
        nothing waits.
    """
    if not lengths:
        return []
    anchor = lengths[0]
    by_distance = sorted(
        range(1, min(len(lengths), window)), key=lambda row: (abs(lengths[row] - anchor), row)
    )
    chosen, longest = [0], anchor
    for row in by_distance:
        widest = max(longest, lengths[row])
        if widest * (len(chosen) + 1) > max_tokens:
            if lengths[row] <= longest:
                break
            continue
        chosen.append(row)
        longest = widest
    return sorted(chosen)


def padded_tokens(lengths: Sequence[int]) -> int:
    """Return what a batch of these rows costs: rows × longest."""
    return len(lengths) * max(lengths, default=0)
