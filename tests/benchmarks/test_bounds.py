"""The verdict, and the figures that it is about."""

import pytest
from benchmarks.bench import table
from benchmarks.bench.__main__ import figures as figures_of
from benchmarks.bench.bounds import BOUNDS, LEAST_CHUNKS, faults, last_line, missed
from benchmarks.engine.contestants import FASTEMBED, INFINITY

from tests.benchmarks.records import engine, figures, record, round_of

ABSENT = "it is not installed: run `make bench-peers`"


def test_figures_at_their_bounds_hold() -> None:
    assert missed(figures(), has_amx=True) == []


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.figure)
def test_a_figure_beyond_its_bound_is_missed(bound: object) -> None:
    worse = 1.01 if bound.is_most else 0.99  # type: ignore[attr-defined]
    name, value = bound.figure, bound.bound * worse  # type: ignore[attr-defined]
    (line,) = missed(figures(**{name: value}), has_amx=True)
    assert line.startswith(f"{name}=")


def test_bounds_that_need_amx_do_not_apply_without_it() -> None:
    slow = figures(engine_x=1.4, path_x_plain=1.1, infinity_x=1.0)
    assert missed(slow, has_amx=False) == []
    assert len(missed(slow, has_amx=True)) == 3


def test_what_was_not_measured_is_missed_unless_it_is_optional() -> None:
    without = {name: value for name, value in figures().items() if name != "infinity_x"}
    assert missed(without, has_amx=True) == []
    assert missed(figures(infinity_x=None), has_amx=True) == ["infinity_x was not measured"]
    assert missed(figures(engine_x=None), has_amx=True) == ["engine_x was not measured"]


def test_the_last_line_names_every_figure_in_order() -> None:
    assert last_line(record(engine_x=4.5678, padding=0.02), []) == (
        "bench ok: engine_x=4.568 peak_share=0.31 cos_min=0.999 padding=0.02 stage_share_1=0.6 "
        "stage_share_10=0.88 stage_share_150=0.93 path_x_plain=2.5"
    )
    failed = last_line(record(engine_x=None), ["engine_x was not measured"])
    assert failed.startswith("bench FAILED: engine_x was not measured (engine_x=none ")


def test_a_quick_run_does_not_end_like_one_of_full_size() -> None:
    assert last_line(record(size=0.1), []).startswith("bench ok (SIZE=0.1): engine_x=")
    assert last_line(record(size=0.1), ["a", "b"]).startswith("bench FAILED (SIZE=0.1): a; b (engine_x=")


def test_who_is_not_installed_fails_a_run_of_full_size_and_is_named_by_a_quick_one() -> None:
    quick, full = record(size=0.1), record()
    for one in (quick, full):
        one["engine"]["absent"].update({INFINITY: ABSENT, FASTEMBED: ABSENT})
    del quick["figures"]["infinity_x"]
    assert faults(quick) == []
    assert last_line(quick, []).startswith(
        "bench ok (SIZE=0.1, without infinity torch and fastembed): engine_x"
    )
    assert faults(full) == [f"infinity torch: {ABSENT}", f"fastembed: {ABSENT}"]


@pytest.mark.parametrize(
    ("part", "name"), [("engine", "engine"), ("stage", "stage, documents of 1"), ("path", "whole path")]
)
def test_too_few_rounds_that_count_fail_any_run(part: str, name: str) -> None:
    restless = record()
    rounds = [round_of(True), round_of(True), round_of(False)]
    restless[part] |= {
        "wanted": {name: 3} if part == "engine" else 3,
        "rounds": rounds if part == "path" else {name: rounds},
    }
    (sentence,) = faults(restless)
    assert sentence.startswith(f"{name}: 2 of 3 rounds count and 3 are wanted: run it again")
    rounds.append(round_of(True))
    assert faults(restless) == []


def test_bounds_are_among_the_faults() -> None:
    assert faults(record(padding=0.05)) == ["padding=0.05, wanted ≤ 0.04"]


def stages(chunks: int) -> dict[str, object]:
    megabytes = [(100, 200), (3000, 400), (7000, 500), (chunks, 510)]
    return {
        "shares": {"150": 0.95, "10": None, "1": 0.6},
        "memory": [{"chunks": n, "rss": mb * 10**6, "peak_rss": mb * 10**6} for n, mb in megabytes],
    }


def test_memory_growth_is_from_a_third_of_the_chunks_on() -> None:
    found = figures_of(engine(), stages(20_000), {"x_plain": 3.0}, is_full=True)
    assert found["worker_rss_growth"] == pytest.approx(510 / 500)
    assert found["worker_rss_mb"] == 510
    assert found["worker_chunks"] == 20_000
    assert found["stage_share_10"] is None
    assert found["onnx_fp32_x"] is None
    assert found["padding_short"] == 0.1


def test_memory_after_fewer_chunks_is_no_figure_of_a_run_of_full_size() -> None:
    few = stages(LEAST_CHUNKS - 1)
    found = figures_of(engine(), few, {"x_plain": 3.0}, is_full=True)
    assert (found["worker_rss_mb"], found["worker_rss_growth"]) == (None, None)
    assert figures_of(engine(), few, {"x_plain": 3.0}, is_full=False)["worker_rss_mb"] == 510
    lacking = record(worker_chunks=found["worker_chunks"])
    assert faults(lacking) == ["the worker embedded 19999 chunks, and its memory is judged after 20000"]
    assert faults(record(worker_chunks=900.0, size=0.1)) == []


def test_infinity_may_be_absent_from_a_quick_run_alone() -> None:
    assert "infinity_x" not in figures_of(engine(), stages(300), {"x_plain": 3.0}, is_full=False)
    found = figures_of(engine(), stages(20_000), {"x_plain": 3.0}, is_full=True)
    assert "infinity_x was not measured" in missed(found, has_amx=True)


def test_the_tables_say_what_holds_and_who_is_absent() -> None:
    verdicts = {
        row[0].rpartition("(")[2].rstrip(")"): row[3]
        for row in table.figure_rows(figures(engine_x=1.0, padding=0.5, infinity_x=None), has_amx=False)
    }
    assert verdicts["engine_x"] == "does not apply: no AMX-bf16"
    assert verdicts["padding"] == "MISSED"
    assert verdicts["padding_short"] == "holds"
    without = {name: value for name, value in figures().items() if name != "infinity_x"}
    assert "did not take part" in {row[3] for row in table.figure_rows(without, has_amx=True)}
    names = [row[0] for row in table.engine_rows(engine())]
    assert names == ["engine (bf16)", "sentence-transformers fp32"]
    assert table.absentees(engine()) == "Did not take part: ours, torch bf16 (it computes in fp32)."
    assert table.absentees({"absent": {}}) == ""


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "-"), (0.99995, "0.99995"), (1.0, "1"), (4.00049, "4"), (583.59, "583.6")]
)
def test_a_cosine_just_below_one_is_not_rounded_to_it(value: float | None, shown: str) -> None:
    assert table.number(value) == shown
