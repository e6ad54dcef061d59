"""The dashboards as Grafana takes them."""

import json
from itertools import combinations
from pathlib import Path

import pytest
from dashboards.boards import BOARDS
from dashboards.panel import Board

from dashboards import __main__ as program

Place = dict[str, int]


def test_the_charts_files_are_in_step() -> None:
    assert program.main(["--check"]) == 0


def test_a_file_that_is_stale_missing_or_too_many_is_told_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "FILES", tmp_path / "new")
    assert program.main(["--check"]) == 1
    assert program.main([]) == program.main(["--check"]) == 0
    (tmp_path / "new/engine.json").write_text("{}", "utf-8")
    (tmp_path / "new/other.json").write_text("{}", "utf-8")
    capsys.readouterr()
    assert program.main(["--check"]) == 1
    assert capsys.readouterr().err == "out of step: engine.json, other.json; run `make dashboards`\n"
    assert program.main([]) == program.main(["--check"]) == 0


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_panels_have_an_id_and_a_place_of_their_own(board: Board) -> None:
    panels = json.loads(program.files()[f"{board.name}.json"])["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        assert not _overlap(one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= program.COLUMNS for panel in panels)
    headings = [panel["title"] for panel in panels if panel["type"] == "row"]
    assert headings == list(board.rows)


def _overlap(one: Place, other: Place) -> bool:
    return all(
        one[at] < other[at] + other[size] and other[at] < one[at] + one[size]
        for at, size in (("x", "w"), ("y", "h"))
    )


def test_uids_and_titles_are_the_boards_own() -> None:
    shown = [json.loads(text) for text in program.files().values()]
    for name in ("uid", "title"):
        assert len({one[name] for one in shown}) == len(BOARDS)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_every_expression_can_be_kept_to_a_namespace(board: Board) -> None:
    for panel in board.panels:
        for target in panel.targets:
            assert target.expr.count("{") == target.expr.count('namespace=~"$namespace"') > 0
