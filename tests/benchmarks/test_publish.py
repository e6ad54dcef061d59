"""Where figures are shown."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from benchmarks.bench import publish
from benchmarks.bench.plot import LEFT, WANTED, Bar, Panel, panels, svg

from tests.benchmarks.records import record

SVG = "{http://www.w3.org/2000/svg}"


def test_bars_are_as_long_as_their_values() -> None:
    picture = svg("<title>", [Panel("one", [Bar("a & b", 4.0), Bar("c", 1.0, is_ours=False, wanted=2.0)])])
    root = ET.fromstring(picture)
    _, first, second = root.iter(f"{SVG}rect")
    assert float(first.get("width", 0)) == pytest.approx(4 * float(second.get("width", 0)), abs=0.2)
    assert first.get("fill") != second.get("fill")
    (mark,) = root.iter(f"{SVG}line")
    assert mark.get("stroke") == WANTED
    assert float(mark.get("x1", 0)) - LEFT == pytest.approx(2 * float(second.get("width", 0)), abs=0.2)


def test_the_plot_shows_what_was_measured_and_only_the_bounds_that_apply() -> None:
    engines, shares, paths = panels(record(stage_share_10=None), {"stage_share_1": 0.6})
    assert [(bar.name, bar.is_ours) for bar in engines.bars] == [
        ("engine", True),
        ("sentence-transformers fp32", False),
    ]
    assert [(bar.name, bar.wanted) for bar in shares.bars] == [
        ("documents of 150 chunks", None),
        ("documents of 1 chunks", 0.6),
    ]
    assert [bar.value for bar in paths.bars] == [2.5, 1.0]
    assert not panels(record(path_x_plain=None), {})[2].bars
    with_amx, without = (publish.picture(record(amx=amx)).count("<line") for amx in (True, False))
    assert (with_amx, without) == (4, 3)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"amx_bf16": True}, "with AMX-bf16,"),
        ({"amx_bf16": False}, "with AVX512-bf16 and without AMX,"),
        ({"amx_bf16": False, "avx512_bf16": False}, "threads, without AMX,"),
    ],
)
def test_a_record_says_which_instructions_for_bf16_the_cpu_has(flags: dict[str, bool], words: str) -> None:
    found = record()
    found["machine"] |= flags
    assert words in publish.in_readme(found)


def test_a_full_run_is_shown_on_both_pages(pages: tuple[Path, Path, Path]) -> None:
    results, readme, docs = pages
    publish.keep(record())
    publish.keep(record(engine_x=7.5))
    assert sorted(file.name for file in results.iterdir()) == ["bench.json", "bench.svg"]
    assert readme.read_text("utf-8").startswith(f"before\n{publish.BEGIN}")
    assert readme.read_text("utf-8").endswith(f"{publish.END}\nafter\n")
    assert readme.read_text("utf-8").count("(engine_x)") == 1
    assert "7.5" in readme.read_text("utf-8")
    assert publish.recorded() == record(engine_x=7.5)
    text = docs.read_text("utf-8")
    assert "2026-11-26, 2 x Test <CPU>, 2 threads, with AMX-bf16, 24 GiB" in text
    assert "The worker's memory is that of 21,150 chunks." in text
    assert "Rejected rounds: engines 1 of 2, stage 0 of 1, path 1 of 2." in text


def test_a_quick_run_is_shown_nowhere(pages: tuple[Path, Path, Path]) -> None:
    results, readme, _ = pages
    publish.keep(record(size=0.1))
    assert sorted(file.name for file in results.iterdir()) == ["bench-quick.json", "bench-quick.svg"]
    assert publish.shown(readme.read_text("utf-8")) == ""
    assert publish.recorded() is None


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="no lines"):
        publish.replaced("nothing here", "block")


@pytest.mark.skipif(publish.recorded() is None, reason="no run of full size is recorded yet")
def test_the_pages_show_the_recorded_run() -> None:
    recorded = publish.recorded()
    assert recorded is not None
    assert publish.shown(publish.README.read_text("utf-8")) == publish.in_readme(recorded)
    assert publish.shown(publish.DOCS.read_text("utf-8")) == publish.in_docs(recorded)


@pytest.fixture
def pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, Path]:
    """A folder of results, a README and a page of docs that nobody reads."""
    results, readme, docs = tmp_path / "results", tmp_path / "README.md", tmp_path / "benchmarks.md"
    for page in (readme, docs):
        page.write_text(f"before\n{publish.BEGIN}\n{publish.END}\nafter\n", "utf-8")
    monkeypatch.setattr(publish, "RESULTS", results)
    monkeypatch.setattr(publish, "README", readme)
    monkeypatch.setattr(publish, "DOCS", docs)
    return results, readme, docs
