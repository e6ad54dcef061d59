"""What `make gpu-check` keeps of a run, whatever fails on the way."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from benchmarks.bench.process import Contestant, Unavailable
from benchmarks.bench.rounds import Plan
from benchmarks.bench.setup import Setup
from benchmarks.engine.compare import side_by_side
from benchmarks.engine.contestants import Entry
from benchmarks.gpu import __main__ as gpu

from tests.benchmarks.records import engine

HERE = Path(sys.prefix)


def refused(*_: Any) -> None:
    raise Unavailable("sentence-transformers fp16 has ended: no kernel image")


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, Any]]:
    """A machine with one GPU, where nothing can be measured; read the record."""
    folder = tmp_path / "results"
    monkeypatch.setattr(gpu, "gpus", lambda: ["Test L4"])
    monkeypatch.setattr(gpu, "RESULTS", folder)
    monkeypatch.setattr(gpu, "_entries", lambda setup: [])
    monkeypatch.setattr(gpu, "side_by_side", refused)
    monkeypatch.setattr(Setup, "corpus", SimpleNamespace(mixed=["a"], source="a test's"))
    return lambda: json.loads((folder / "gpu.json").read_text("utf-8"))


def child(monkeypatch: pytest.MonkeyPatch, answer: Callable[[str], dict[str, Any]]) -> None:
    """Let the checks' process answer so."""
    monkeypatch.setattr(Contestant, "start", lambda self: None)
    monkeypatch.setattr(Contestant, "ask", lambda self, check: answer(check))


def test_the_checks_are_on_disk_before_anything_is_measured(
    results: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    child(monkeypatch, lambda check: {"check": check})

    def measured(*_: Any) -> None:
        assert results()["checks"]["torch"]["gate"] == {"check": "gate"}
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu, "side_by_side", measured)
    with pytest.raises(KeyboardInterrupt):
        gpu.main()
    assert set(results()["checks"]["onnx"]) == set(gpu.CHECKS)


def test_a_reference_that_can_not_start_fails_the_run_and_keeps_the_checks(
    results: Callable[[], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    child(monkeypatch, lambda check: {"cos_min": 0.9999} if check == "gate" else {})

    assert gpu.main() == 1
    said = capsys.readouterr().out
    assert said == ("gpu-check FAILED: side by side: sentence-transformers fp16 has ended: no kernel image\n")
    assert results()["checks"]["onnx"]["gate"] == {"cos_min": 0.9999}
    assert results()["engine"]["failed"].endswith("no kernel image")


def test_a_process_that_ends_at_a_check_keeps_what_it_saw_before(
    results: Callable[[], dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(check: str) -> dict[str, Any]:
        if check == "memory_fit":
            raise Unavailable("it has ended: CUDA error 700")
        return {"ok": check}

    child(monkeypatch, answer)
    assert gpu.main() == 1
    assert results()["checks"]["onnx"] == {
        "provider": {"ok": "provider"},
        "gate": {"ok": "gate"},
        "memory_fit": {"failed": "it has ended: CUDA error 700"},
    }


def test_without_an_engine_beside_the_reference_there_are_no_rounds(tmp_path: Path) -> None:
    reference = Entry("reference", "tests.benchmarks.echo", HERE, is_required=True)
    absent = Entry("ours", "tests.benchmarks.echo", HERE, {"ECHO": "refuse"})
    setup, plan = Setup(tmp_path, 0.1, lambda _: None), Plan(1, 1, 1.0)
    with pytest.raises(Unavailable, match=r"no engine runs beside reference \(ours: .*it can't start"):
        side_by_side(setup, [reference, absent], ["a"], plan, plan)


def test_the_record_says_what_failed_and_gives_a_line() -> None:
    passed = {"onnx": {"gate": {"cos_min": 0.9995}}, "torch": {"gate": {"failed": "cosine 0.4"}}}
    record = {"gpus": ["Test L4"], "date": "2026-11-26", "checks": passed, "engine": engine()}
    assert gpu.failed(record) == ["torch gate: cosine 0.4", "ours, torch bf16: it computes in\nfp32"]
    record["engine"]["wanted"] = {"engine": 5}  # type: ignore[index]
    assert gpu.failed(record)[2].startswith("engine: 1 of 2 rounds count and 5 are wanted")
    line = gpu.readme_line(record)
    assert line.startswith(
        "| Test L4 | sentence-transformers fp32 40 chunks/s (1x), engine 180 chunks/s (4.5x) |"
    )
    assert line.endswith("| onnx 0.99950 | 2026-11-26 |")
