"""Thresholds say what was not kept, and refuse what they don't know."""

import math
import tomllib
from pathlib import Path

import pytest
from loadtests.arrivals import SHAPES
from loadtests.book import Book
from loadtests.thresholds import Thresholds

import loadtests

TEXT = (Path(loadtests.__file__).parent / "thresholds.toml").read_text("utf-8")
FIGURES = {"uploads": 180.0, "lost": 0.0, "search_idle_p95_ms": 10.0, "search_p95_ms": 55.0}


def parsed(lines: str) -> Thresholds:
    return Thresholds.parse(f"[a]\n{lines}", "a")


def test_kept_thresholds_say_nothing() -> None:
    found = parsed("min_uploads = 180\nmax_lost = 0\nsearch_p95_x_idle = 6\nor_search_p95_ms = 150")
    assert found.broken(FIGURES) == []


def test_each_broken_threshold_is_a_sentence() -> None:
    found = parsed("min_uploads = 181\nmax_lost = 0").broken(FIGURES | {"lost": 2})
    assert found == ["uploads is 180, at least 181 is wanted", "lost is 2, at most 0 is allowed"]


@pytest.mark.parametrize(
    ("idle", "busy", "kept"), [(10, 60, True), (10, 140, True), (30, 170, True), (10, 160, False)]
)
def test_searches_are_quick_by_either_way(idle: float, busy: float, kept: bool) -> None:
    found = parsed("search_p95_x_idle = 6\nor_search_p95_ms = 150")
    assert (found.broken({"search_idle_p95_ms": idle, "search_p95_ms": busy}) == []) is kept
    alone = parsed("search_p95_x_idle = 6")
    assert (alone.broken({"search_idle_p95_ms": idle, "search_p95_ms": busy}) == []) is (busy <= 6 * idle)


def test_a_figure_that_is_no_number_breaks_all_of_its_thresholds() -> None:
    found = parsed("min_a = 0\nmax_a = 9\nsearch_p95_x_idle = 6\nor_search_p95_ms = 150")
    nothing = {"a": math.nan, "search_idle_p95_ms": 10.0, "search_p95_ms": math.nan}
    assert len(found.broken(nothing)) == 3
    unknown = {"a": 1.0, "search_idle_p95_ms": math.nan, "search_p95_ms": 10.0}
    assert found.broken(unknown) == ["search_p95_ms is 10, allowed is 6 x nan ms or 150 ms"]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("lost = 0", "begins with neither"),
        ('max_lost = "0"', "is no number"),
        ("max_lost = true", "is no number"),
        ("or_search_p95_ms = 150", "alone says nothing"),
    ],
)
def test_what_is_no_threshold_is_refused(lines: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parsed(lines)


def test_an_unknown_section_or_figure_is_refused() -> None:
    with pytest.raises(ValueError, match=r"there is no section \[b\]: there are a"):
        Thresholds.parse("[a]", "b")
    with pytest.raises(ValueError, match="no figure is called loss"):
        parsed("max_loss = 0").broken(FIGURES)


@pytest.mark.parametrize("section", sorted(set(tomllib.loads(TEXT)) - {"memory"}))
def test_the_files_sections_name_figures_of_the_summary_and_an_empty_run_breaks_them(section: str) -> None:
    assert Thresholds.parse(TEXT, section).broken(Book().summary(errors=0).as_dict())


@pytest.mark.parametrize("section", sorted(set(tomllib.loads(TEXT)) - {"memory"}))
def test_no_section_takes_what_is_given_up_or_late(section: str) -> None:
    most = Thresholds.parse(TEXT, section).most
    assert (most["given_up"], most["late_s"], most["lost"], most["errors"]) == (0, 1, 0, 0)


def test_every_shape_has_a_section() -> None:
    assert set(SHAPES) <= set(tomllib.loads(TEXT))
