from collections.abc import Callable
from functools import partial

import pytest

from embedfleet.contracts.errors import ConfigurationError, EmbeddingError
from embedfleet.embeddings.memory import MemoryModel
from embedfleet.embeddings.memory.probing import measure, shapes

TRUE = MemoryModel(fixed=20e6, per_token=30_000, per_pair=25)
SHAPES = shapes(512, 65_536)


class Kept:
    """A device whose allocator keeps what its largest batch took; it may not tell what is ours."""

    def __init__(self, size: int, tells: bool = True) -> None:
        self.size, self.tells, self.held = size, tells, 0
        self.ran: list[tuple[int, int]] = []

    def total(self) -> int:
        return self.size

    def free(self) -> int:
        return self.size - self.held

    def reserved(self) -> int:
        return self.held if self.tells else 0

    def run(self, rows: int, length: int) -> None:
        self.ran.append((rows, length))
        if TRUE.bytes(rows, length) > self.size:
            raise EmbeddingError("full", code="out_of_memory")
        self.held = max(self.held, TRUE.bytes(rows, length))

    def give_back(self) -> None:
        self.held = 0

    def keep(self) -> None:
        """Give nothing back, as an allocator without a way to."""


def told(device: Kept) -> Callable[[], int] | None:
    return device.reserved if device.tells else None


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("give_back", [Kept.give_back, Kept.keep])
def test_four_shapes_run_once_give_the_model(tells: bool, give_back: Callable[[Kept], None]) -> None:
    device = Kept(16_000_000_000, tells)
    model = measure(device.run, partial(give_back, device), device, SHAPES, told(device))
    for rows, length in [(256, 256), (64, 512), (500, 32)]:
        assert model.bytes(rows, length) == pytest.approx(TRUE.bytes(rows, length), rel=0.02)
    assert max(rows * length for rows, length in device.ran) <= 65_536 // 4
    assert len(device.ran) == 4


def test_pieces_that_earlier_shapes_left_are_not_counted_where_they_are_given_back() -> None:
    device = Kept(16_000_000_000)

    def run(rows: int, length: int) -> None:
        device.held += TRUE.bytes(rows, length)  # an arena in which nothing is ever large enough

    model = measure(run, device.give_back, device, SHAPES, device.reserved)
    assert model.bytes(256, 256) == pytest.approx(TRUE.bytes(256, 256), rel=0.02)


@pytest.mark.parametrize(("longest", "cap"), [(1, 1), (256, 4096), (8192, 512)])
def test_shapes_exist_for_any_model(longest: int, cap: int) -> None:
    assert all(rows >= 1 and 1 <= length <= longest for rows, length in shapes(longest, cap))


def test_a_neighbour_is_no_part_of_what_a_device_tells_is_ours() -> None:
    device = Kept(16_000_000_000)

    def run(rows: int, length: int) -> None:
        device.size -= 1_000_000_000  # a neighbour takes it; the batch fits into what is ours already

    model = measure(run, device.give_back, device, SHAPES, device.reserved)
    assert model == MemoryModel(0, 0, 0)


def test_probing_ends_where_memory_does_and_keeps_what_it_has() -> None:
    device = Kept(190_000_000)  # the second shape has as many tokens as the first, in longer rows
    model = measure(device.run, device.give_back, device, SHAPES, device.reserved)
    assert len(device.ran) == 2
    assert model.bytes(1, 64) > 0


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("size", range(200_000_000, 1_000_000_000, 40_000_000))
def test_no_shape_is_run_that_would_not_fit_by_those_before_it(size: int, tells: bool) -> None:
    device = Kept(size, tells)
    model = measure(device.run, device.give_back, device, SHAPES, told(device))
    assert all(TRUE.bytes(rows, length) <= size for rows, length in device.ran)
    assert (len(device.ran) == 4) == (0.85 * size >= TRUE.bytes(32, 512))
    for rows, length in SHAPES:  # what wasn't run is taken for more than it costs, not for less
        assert model.bytes(rows, length) >= 0.99 * TRUE.bytes(rows, length)


def test_a_device_that_takes_no_batch_refuses_to_start() -> None:
    device = Kept(1_000_000)
    with pytest.raises(ConfigurationError, match="1 MB are free") as error:
        measure(device.run, device.give_back, device, SHAPES, device.reserved)
    assert error.value.code == "out_of_memory"


def test_another_failure_is_not_hidden() -> None:
    def run(rows: int, length: int) -> None:
        raise EmbeddingError("broken", code="bad_batch")

    with pytest.raises(EmbeddingError, match="broken"):
        measure(run, list, Kept(10**9), SHAPES, None)
