import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedfleet.embeddings.memory.model import UNLIMITED, MemoryModel, Probe, fit

SHAPES = [(1, 32), (16, 128), (8, 512), (32, 256)]
factors = st.just(0.0) | st.floats(1, 1e6)
models = st.builds(MemoryModel, st.floats(0, 1e9), factors, factors)


def measured(model: MemoryModel, extra: float = 1.0) -> list[Probe]:
    return [Probe(rows, length, int(model.bytes(rows, length) * extra)) for rows, length in SHAPES]


@given(models)
def test_four_shapes_give_back_the_model_that_made_them(model: MemoryModel) -> None:
    found = fit(measured(model))
    for rows, length in [*SHAPES, (128, 512)]:
        assert found.bytes(rows, length) == pytest.approx(model.bytes(rows, length), rel=1e-2, abs=16)


@given(
    st.lists(st.builds(Probe, st.integers(1, 64), st.integers(1, 512), st.integers(0, 10**11)), min_size=1)
)
def test_whatever_is_measured_no_factor_is_negative_and_no_probe_is_told_too_low(probes: list[Probe]) -> None:
    model = fit(probes)
    assert min(model.fixed, model.per_token, model.per_pair) >= 0
    if model != MemoryModel(0, 0, 0):
        assert all(model.bytes(one.rows, one.length) >= one.bytes - 1 - one.bytes * 1e-9 for one in probes)


def test_a_cost_that_falls_with_length_is_taken_for_a_flat_one() -> None:
    model = fit([Probe(1, 32, 9_000_000), Probe(1, 512, 5_000_000), Probe(8, 64, 8_000_000)])
    assert (model.per_token, model.per_pair) == (0, 0)
    assert model.bytes(1, 32) >= 9_000_000


@pytest.mark.parametrize("shapes", [[(8, 32)], [(8, 32), (1, 256)]])
def test_what_too_few_shapes_leave_open_is_put_down_to_tokens(shapes: list[tuple[int, int]]) -> None:
    true = MemoryModel(20e6, 30_000, 25)
    model = fit([Probe(rows, length, true.bytes(rows, length)) for rows, length in shapes])
    assert model.fixed == 0
    assert model.bytes(64, 32) >= true.bytes(64, 32)


@given(models, st.floats(0, 1e11), st.integers(1, 512))
def test_rows_within_a_limit_are_all_that_fit(model: MemoryModel, limit: float, length: int) -> None:
    rows = model.rows_within(limit, length)
    assert rows >= 0
    if 0 < rows < UNLIMITED:
        assert model.bytes(rows, length) <= limit
    if rows < 10**9:
        assert model.bytes(rows + 2, length) > limit


@given(models, st.integers(0, 64), st.integers(1, 511))
def test_more_rows_or_longer_ones_never_cost_less(model: MemoryModel, rows: int, length: int) -> None:
    here = model.bytes(rows, length)
    assert model.bytes(rows + 1, length) >= here <= model.bytes(rows, length + 1)


def test_a_fit_needs_a_probe() -> None:
    with pytest.raises(ValueError, match="probe"):
        fit([])
