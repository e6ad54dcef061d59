import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from embedfleet.embeddings.memory.throughput import BUDGETS, ThroughputTuner


def speeds(peak: int, fall: float) -> dict[int, float]:
    """Tokens a second of each budget: most at one of them, less by `fall` a step away from it."""
    return {budget: 10_000 * fall ** abs(at - peak) for at, budget in enumerate(BUDGETS)}


def run(tuner: ThroughputTuner, curve: dict[int, float], batches: int, noise: random.Random) -> list[int]:
    chosen = []
    for _ in range(batches):
        budget = tuner.choice
        chosen.append(budget)
        speed = curve[budget] * noise.uniform(0.88, 1.12)
        tuner.record(budget, int(budget * 0.95), budget * 0.95 / speed)
    return chosen


@given(
    st.integers(0, len(BUDGETS) - 1), st.floats(0.7, 0.85), st.sampled_from(BUDGETS), st.integers(0, 2**16)
)
def test_it_finds_the_fastest_budget_from_anywhere_and_stays(
    peak: int, fall: float, start: int, seed: int
) -> None:
    chosen = run(ThroughputTuner(start=start), speeds(peak, fall), 4000, random.Random(seed))
    late = chosen[-2000:]
    assert late.count(BUDGETS[peak]) / len(late) > 0.9


@given(st.integers(0, 2**16))
def test_where_all_are_the_same_it_hardly_moves(seed: int) -> None:
    chosen = run(ThroughputTuner(start=1024), speeds(2, 1.0), 20_000, random.Random(seed))
    moves = sum(one != other for one, other in pairwise(chosen[-10_000:]))
    assert moves <= 60  # a trial is two


def test_it_follows_a_machine_that_changes() -> None:
    tuner, noise = ThroughputTuner(start=1024), random.Random(1)
    run(tuner, speeds(1, 0.8), 3000, noise)
    chosen = run(tuner, speeds(3, 0.8), 20_000, noise)
    assert chosen[-1000:].count(4096) > 900


def test_thin_batches_are_passed_over() -> None:
    tuner = ThroughputTuner(start=1024)
    for _ in range(1000):
        tuner.record(100, 90, 1e-6)
    assert tuner.choice == 1024


def test_nothing_above_the_most_is_chosen() -> None:
    chosen = run(ThroughputTuner(start=4096, most=2048), speeds(3, 0.7), 3000, random.Random(2))
    assert max(chosen) == 2048
    assert set(run(ThroughputTuner(most=100), {100: 1.0}, 3000, random.Random(2))) == {100}


def test_a_trial_that_the_work_never_fills_is_given_up() -> None:
    tuner, chosen = ThroughputTuner(start=1024), []
    for _ in range(20_000):
        chosen.append(tuner.choice)
        padded = min(1500, tuner.choice)  # it fills 1024 and not 2048
        tuner.record(padded, padded, padded / 1e4)
    assert 0 < chosen.count(2048) < 2000
