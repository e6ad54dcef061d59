"""The verdict, and the figures that it is about."""

import pytest
from benchmarks.bench import table
from benchmarks.bench.__main__ import figures as figures_of
from benchmarks.bench.bounds import BOUNDS, last_line, missed

from tests.benchmarks.records import engine, figures


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
    assert last_line(figures(engine_x=4.5678, padding=0.02), []) == (
        "bench ok: engine_x=4.568 peak_share=0.31 cos_min=0.999 padding=0.02 stage_share_1=0.6 "
        "stage_share_10=0.88 stage_share_150=0.93 path_x_plain=2.5"
    )
    failed = last_line(figures(engine_x=None), ["engine_x was not measured"])
    assert failed.startswith("bench FAILED: engine_x was not measured (engine_x=none ")


def test_memory_growth_is_from_a_third_of_the_chunks_on() -> None:
    megabytes = [(100, 200), (3000, 400), (7000, 500), (20000, 510)]
    stages = {
        "shares": {"150": 0.95, "10": None, "1": 0.6},
        "memory": [{"chunks": n, "rss": mb * 10**6, "peak_rss": mb * 10**6} for n, mb in megabytes],
    }
    found = figures_of(engine(), stages, {"x_plain": 3.0})
    assert found["worker_rss_growth"] == pytest.approx(510 / 500)
    assert found["worker_rss_mb"] == 510
    assert found["stage_share_10"] is None
    assert found["onnx_fp32_x"] is None
    assert found["padding_short"] == 0.1
    assert "infinity_x" not in found


def test_the_tables_say_what_holds_and_who_is_absent() -> None:
    verdicts = {
        row[0].rpartition("(")[2].rstrip(")"): row[3]
        for row in table.figure_rows(figures(engine_x=1.0, padding=0.5, infinity_x=None), has_amx=False)
    }
    assert verdicts["engine_x"] == "does not apply: no AMX-bf16"
    assert verdicts["padding"] == "MISSED"
    assert verdicts["padding_short"] == "holds"
    names = [row[0] for row in table.engine_rows(engine())]
    assert names == ["engine (bf16)", "sentence-transformers fp32"]
    why = "infinity torch has ended: no module and more"
    assert table.absentees(engine()) == f"Did not take part: infinity torch ({why})."
    assert table.absentees({"absent": {}}) == ""
