"""Contestants in processes of their own."""

import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from benchmarks.bench.process import Contestant, Unavailable
from benchmarks.bench.setup import Setup
from benchmarks.engine.compare import Field, cosines
from benchmarks.engine.contestants import Entry
from benchmarks.engine.serving import encoding

from embedfleet.local.datadir import is_alive


def contestant(folder: Path, **env: str) -> Contestant:
    return Contestant("echo", Path(sys.executable), "tests.benchmarks.echo", env, folder / "echo.log")


def test_it_answers_orders_and_ends_with_the_benchmark(tmp_path: Path) -> None:
    with contestant(tmp_path, ECHO="on") as echo:
        assert echo.facts["precision"] == "fp32"
        assert echo.ask(word="một") == {"heard": "một", "setting": "on"}
        assert echo.ask(word="hai")["heard"] == "hai"
        pid = echo.facts["pid"]
        assert is_alive(pid)
    assert not is_alive(pid)
    assert "chatter" in (tmp_path / "echo.log").read_text("utf-8")


def test_one_that_can_not_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="it can't start"), contestant(tmp_path, ECHO="refuse"):
        pass


def test_one_that_ends_on_the_way_says_why(tmp_path: Path) -> None:
    with contestant(tmp_path) as echo:
        with pytest.raises(Unavailable, match="told to die"):
            echo.ask(die=True)
        with pytest.raises(Unavailable, match="has ended"):
            echo.ask(word="still there?")


def test_the_time_of_an_order_is_that_of_encoding(tmp_path: Path) -> None:
    file, saved = tmp_path / "texts.json", tmp_path / "vectors.npy"
    file.write_text('["xin chào", "b"]', "utf-8")
    run = encoding(lambda texts: [[len(text), 1.0] for text in texts])
    answer = run({"texts": str(file), "save": str(saved)})
    assert answer["seconds"] >= 0
    assert answer["peak_rss"] > 10**6
    assert np.load(saved).tolist() == [[8.0, 1.0], [1.0, 1.0]]


def test_another_precision_than_asked_for_is_said() -> None:
    entry = Entry("ours, onnx bf16", "module", Path("/venv"), {}, "bf16")
    assert entry.why_not({"precision": "bf16"}) == ""
    assert entry.why_not({"precision": "fp32"}) == "it computes in fp32"
    assert Entry("engine", "module", Path("/venv")).why_not({"precision": "fp32"}) == ""


def test_who_is_not_installed_says_what_to_run(tmp_path: Path) -> None:
    entry = Entry("peer", "module", tmp_path, target="bench-peers")
    assert entry.absence == "it is not installed: run `make bench-peers`"
    taking_part = Field()
    setup = Setup(tmp_path, 0.1, lambda _: None)
    with ExitStack() as stack:
        taking_part.enter(entry, setup, stack)
        assert taking_part.absent == {"peer": entry.absence}
        with pytest.raises(Unavailable, match="run `make bench`"):
            taking_part.enter(Entry("reference", "module", tmp_path, is_required=True), setup, stack)
    entry.python.parent.mkdir()
    entry.python.touch()
    assert entry.absence == ""


def test_cosines_do_not_depend_on_length() -> None:
    reference = np.array([[1.0, 0.0], [0.0, 2.0]], dtype=np.float32)
    vectors = np.array([[3.0, 0.0], [1.0, 1.0]], dtype=np.float32)
    least, mean = cosines(vectors, reference)
    assert least == pytest.approx(0.5**0.5)
    assert mean == pytest.approx((1 + 0.5**0.5) / 2)
