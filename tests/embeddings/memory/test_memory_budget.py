from dataclasses import dataclass
from itertools import count

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from embedfleet.contracts.errors import EmbeddingError
from embedfleet.embeddings.memory import MARGIN, MemoryBudget, MemoryModel
from embedfleet.embeddings.memory.budget import KEPT_BYTES, KEPT_SECONDS, SINGLE_ROW_TRIES, STEP
from embedfleet.embeddings.memory.unsafe import FORGET_SECONDS

MODEL = MemoryModel(fixed=50e6, per_token=40_000, per_pair=30)
GIGABYTE = 10**9
CAP = 131_072


@dataclass
class StillDevice:
    """A device whose readings are set by the test; it counts how often they are taken."""

    left: int = 10 * GIGABYTE
    held: int = 0
    now: float = 0.0
    read: int = 0

    def total(self) -> int:
        return 16 * GIGABYTE

    def free(self) -> int:
        self.read += 1
        return self.left

    def reserved(self) -> int:
        return self.held

    def clock(self) -> float:
        return self.now


def made(device: StillDevice, model: MemoryModel = MODEL, cap: int = CAP) -> MemoryBudget:
    return MemoryBudget(model, device, device.clock, cap)


def test_it_is_085_of_what_is_free_and_what_our_own_allocator_holds() -> None:
    device = StillDevice(left=4 * GIGABYTE, held=2 * GIGABYTE)
    budget = made(device)
    assert budget.limit == pytest.approx(0.85 * 6 * GIGABYTE)
    rows = budget.max_rows(256)
    assert MODEL.bytes(rows, 256) <= budget.limit < MODEL.bytes(rows + 1, 256)
    assert budget.budget_tokens(256) == rows * 256
    assert budget.fits(rows, 256)
    assert not budget.fits(rows + 1, 256)


def test_batches_side_by_side_never_have_more_than_one_alone_would() -> None:
    device = StillDevice(left=4 * GIGABYTE, held=2 * GIGABYTE)
    alone = made(device)
    both = MemoryBudget(MODEL, device, device.clock, CAP, grown=lambda: GIGABYTE, streams=2)
    assert 2 * both.limit == pytest.approx(alone.limit)
    assert 2 * both.look() == 7 * GIGABYTE
    assert 0 < 2 * MODEL.bytes(both.max_rows(256), 256) <= alone.limit
    device.left, device.held = 0, int(MODEL.bytes(1, 256))
    device.now = 1.0
    assert (alone.max_rows(256), made(device).max_rows(256)) == (1, 1)
    one_too_few = MemoryBudget(MODEL, device, device.clock, CAP, streams=2)
    assert one_too_few.max_rows(256) == 0


def test_an_arena_that_keeps_what_it_took_does_not_shrink_the_budget() -> None:
    device = StillDevice()
    budget = made(device)
    first = budget.max_rows(256)
    for _ in range(20):
        taken = max(0, MODEL.bytes(budget.max_rows(256), 256) - device.held)
        device.left, device.held, device.now = device.left - taken, device.held + taken, device.now + 1
        budget.passed(budget.max_rows(256), 256)
    assert budget.max_rows(256) == first


def test_readings_are_taken_between_batches_and_not_more_often() -> None:
    device = StillDevice()
    budget = made(device)
    for _ in range(50):
        budget.fits(4, 128)
    assert device.read == 1
    device.left, device.now = GIGABYTE, 0.05
    assert MODEL.bytes(budget.max_rows(128), 128) <= MARGIN * GIGABYTE
    assert device.read == 2


@given(st.integers(0, 12 * GIGABYTE), st.integers(0, 4 * GIGABYTE), st.integers(1, 512), st.integers(1, CAP))
def test_one_row_may_run_wherever_it_fits_and_nothing_passes_the_cap(
    left: int, held: int, length: int, cap: int
) -> None:
    budget = made(StillDevice(left, held), cap=cap)
    rows = budget.max_rows(length)
    assert (rows >= 1) == (MODEL.bytes(1, length) <= left + held)
    assert rows <= 1 or rows * length <= cap
    assert rows <= 1 or MODEL.bytes(rows, length) <= MARGIN * (left + held)


events = st.lists(
    st.tuples(st.sampled_from(["passed", "ran_out", "neighbours"]), st.integers(1, 512), st.integers(0, 100)),
    max_size=60,
)


@given(events)
@example(
    [
        *[("ran_out", 1, 0)] * 3,
        *[("passed", 1, 0)] * 2,
        ("ran_out", 1, 0),
        *[("passed", 1, 0)] * 2,
        ("ran_out", 512, 0),
    ]
)
def test_whatever_happens_a_failure_makes_it_smaller_and_one_row_is_never_kept_out(
    happened: list[tuple[str, int, int]],
) -> None:
    device = StillDevice()
    budget = made(device)
    for what, length, percent in happened:
        device.now += 1
        if what == "neighbours":
            device.left = percent * 120_000_000
        rows = budget.max_rows(length)
        assert (rows >= 1) == (MODEL.bytes(1, length) <= device.left)
        if not rows:
            continue
        if what == "passed":
            budget.passed(rows, length)
        elif what == "ran_out":
            before = budget.limit
            if rows == 1:
                break
            tries = budget.ran_out(rows, length)
            assert 1 <= tries <= rows // 2
            # One byte for the one that `_shrink` adds, one for what floats round.
            assert budget.limit <= max(before / 2, MODEL.bytes(rows // 2, length)) + 2
            assert budget.limit < MODEL.bytes(rows, length)
            assert budget.max_rows(length) <= max(1, rows // 2)
    assert 0 <= budget.limit <= MARGIN * budget.available


@given(st.lists(st.integers(1, 512), min_size=1, max_size=12))
def test_after_32_full_batches_and_the_time_to_forget_all_is_as_before(lengths: list[int]) -> None:
    device = StillDevice()
    budget = made(device)
    whole = budget.limit
    device.left = 2 * GIGABYTE  # neighbours come
    for length in lengths:
        device.now += 1
        if (rows := budget.max_rows(length)) > 1:
            budget.ran_out(rows, length)
    device.left = 10 * GIGABYTE  # and leave
    device.now += FORGET_SECONDS
    for _ in range(round(1 / STEP)):
        device.now += 1
        budget.passed(budget.max_rows(256), 256)
    assert budget.limit == pytest.approx(whole)


def test_the_share_halves_at_once_and_grows_by_a_32nd_a_batch() -> None:
    device = StillDevice()
    budget = made(device, MemoryModel(0, 40_000, 0), cap=10**6)
    whole = budget.limit
    budget.ran_out(budget.max_rows(100), 100)
    device.left += 1  # what failed says nothing of a device with more free
    assert budget.limit == pytest.approx(whole / 2, rel=1e-3)
    for batches in range(1, 9):
        device.now += 1
        budget.passed(budget.max_rows(100), 100)
        assert budget.limit == pytest.approx(whole * (1 / 2 + batches / 32), rel=1e-3)


def test_a_failure_that_a_neighbour_explains_is_not_remembered() -> None:
    device = StillDevice()
    budget = made(device)
    rows = budget.max_rows(256)
    device.left = 3 * GIGABYTE
    budget.ran_out(rows, 256)
    device.left, device.now = 10 * GIGABYTE, 1.0
    for _ in range(round(1 / STEP)):
        budget.passed(budget.max_rows(256), 256)
    assert budget.max_rows(256) == rows


def test_thin_batches_prove_nothing() -> None:
    device = StillDevice()
    budget = made(device)
    budget.ran_out(budget.max_rows(256), 256)
    device.now += FORGET_SECONDS
    small = budget.limit
    for _ in range(100):
        budget.passed(1, 32)
    assert budget.limit == small


def test_a_shape_that_failed_with_so_much_free_is_not_tried_again_though_the_share_has_grown() -> None:
    device = StillDevice()
    budget = made(device)
    failed = budget.max_rows(256) // 2
    budget.ran_out(failed, 256)
    for _ in range(40):
        device.now += 0.5
        assert budget.max_rows(256) < failed
        budget.passed(budget.max_rows(256), 256)
    device.now += FORGET_SECONDS
    assert budget.max_rows(256) > failed


def test_rows_that_failed_pass_in_halves_of_halves() -> None:
    device = StillDevice(left=8 * GIGABYTE)
    budget = made(device)
    rows = budget.max_rows(512)
    device.left = GIGABYTE // 2  # a neighbour came before the batch
    tries = budget.ran_out(rows, 512)
    while MODEL.bytes(tries, 512) > device.left:
        tries = budget.ran_out(tries, 512)
    assert tries >= 1
    assert budget.ooms == budget.splits > 0


def test_one_row_that_fails_though_it_should_fit_is_given_up_and_it_alone() -> None:
    budget = made(StillDevice())
    for _ in range(SINGLE_ROW_TRIES - 1):
        assert budget.ran_out(1, 512) == 1
    with pytest.raises(EmbeddingError, match="a chunk of 512 tokens") as error:
        budget.ran_out(1, 512)
    assert (error.value.code, error.value.retryable) == ("out_of_memory", False)
    assert budget.max_rows(16) >= 1


def test_one_row_that_others_leave_no_room_for_waits_and_is_not_given_up() -> None:
    device = StillDevice(left=60_000_000)
    budget = made(device)
    for _ in range(2 * SINGLE_ROW_TRIES):
        assert budget.ran_out(1, 512) == 0
    assert budget.max_rows(512) == 0
    assert budget.max_rows(16) >= 1
    device.left, device.now = GIGABYTE, 1.0
    assert budget.max_rows(512) >= 1


any_model = st.builds(
    MemoryModel, st.floats(0, 1e9), st.just(0.0) | st.floats(0, 1e6), st.just(0.0) | st.floats(0, 1e3)
)


@given(any_model, st.integers(0, 10 * GIGABYTE), st.integers(1, 512))
@example(MemoryModel(0.0, 0.5, 0.6), 169_626, 1)
def test_whatever_the_model_halving_comes_down_to_one_row(model: MemoryModel, left: int, length: int) -> None:
    budget = made(StillDevice(left), model)
    rows = budget.max_rows(length)
    for _ in range(CAP.bit_length()):
        if rows <= 1:
            break
        assert budget.ran_out(rows, length) <= rows // 2
        assert budget.max_rows(length) <= max(1, rows // 2)
        rows = budget.max_rows(length)
    assert rows <= 1


def test_a_batch_that_passes_between_starts_the_tries_of_a_single_row_afresh() -> None:
    budget = made(StillDevice())
    for turn in count():
        if turn == 2 * SINGLE_ROW_TRIES:
            break
        assert budget.ran_out(1, 512) == 1
        budget.passed(1, 16)


def test_the_runtime_is_to_keep_an_eighth_at_most_so_that_what_a_batch_may_need_is_there_in_one_piece() -> (
    None
):
    device = StillDevice(left=8 * GIGABYTE)
    budget = made(device)
    rows = next(rows for rows in count(1) if budget.gives_back(rows, 256))
    assert MODEL.bytes(rows - 1, 256) <= GIGABYTE < MODEL.bytes(rows, 256)
    device.left, device.held, device.now = 7 * GIGABYTE, GIGABYTE, 1.0
    assert budget.limit <= device.left
    assert budget.gives_back(1, 16)


def test_main_memory_is_given_back_only_when_less_is_left_than_the_largest_batch_needs() -> None:
    largest = MODEL.bytes(16, 256)
    device = StillDevice(left=largest, held=GIGABYTE)
    budget = MemoryBudget(MODEL, device, device.clock, 4096, paged=True)
    assert not budget.gives_back(16, 256)
    device.left, device.now = largest - 1, 1.0
    budget.passed(2, 256)
    assert budget.gives_back(2, 256)
    device.held, device.now = 0, 2.0  # no more is known to be idle
    budget.passed(2, 256)
    assert not budget.gives_back(2, 256)
    device.now = KEPT_SECONDS
    assert budget.gives_back(2, 256)
    device.left = largest
    budget.gave_back()
    device.now *= 2
    assert not budget.gives_back(2, 256)


def test_what_comes_together_in_main_memory_is_given_back_a_few_times_a_minute() -> None:
    device = StillDevice(left=100 * GIGABYTE, held=KEPT_BYTES + 1)
    budget = MemoryBudget(MODEL, device, device.clock, 4096, paged=True)
    device.now = KEPT_SECONDS - 1
    assert not budget.gives_back(4, 256)
    device.now = KEPT_SECONDS
    assert budget.gives_back(4, 256)
    budget.gave_back()
    device.now += KEPT_SECONDS - 1
    assert not budget.gives_back(4, 256)
    device.now, device.held = device.now + 1, KEPT_BYTES
    budget.passed(4, 256)
    assert not budget.gives_back(4, 256)


def test_a_row_that_only_the_process_s_own_growth_leaves_no_room_for_is_tried_and_fails_in_the_end() -> None:
    needed = MODEL.bytes(1, 256)
    device, grown = StillDevice(left=0), [needed - 1]
    budget = MemoryBudget(MODEL, device, device.clock, 4096, paged=True, grown=lambda: grown[0])
    assert (budget.max_rows(256), budget.look()) == (0, needed - 1)
    assert budget.ran_out(1, 256) == 0
    grown[0] = needed
    assert (budget.max_rows(256), budget.look()) == (1, needed)
    assert [budget.ran_out(1, 256) for _ in range(SINGLE_ROW_TRIES - 1)] == [1, 1]
    with pytest.raises(EmbeddingError, match="does not fit into memory"):
        budget.ran_out(1, 256)


def test_what_is_free_may_be_looked_at_without_the_budget_remembering_it() -> None:
    device = StillDevice(left=8 * GIGABYTE, held=GIGABYTE)
    budget = made(device)
    device.left = GIGABYTE
    assert budget.look() == 2 * GIGABYTE
    assert budget.available == 9 * GIGABYTE


def test_what_the_allocator_keeps_is_told_by_the_model_until_it_is_given_back() -> None:
    device = StillDevice()
    budget = made(device)
    for rows in (8, 64, 16):
        budget.passed(rows, 256)
    assert budget.kept == MODEL.bytes(64, 256)
    read = device.read
    budget.gave_back()
    assert (budget.kept, device.read) == (0, read + 1)


def test_the_cap_may_be_set_anew() -> None:
    budget = made(StillDevice())
    budget.cap_tokens = 1024
    assert budget.max_rows(256) == 4
