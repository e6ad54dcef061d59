"""Capacity confirms what it says, and a soak looks at its thresholds before it begins."""

import argparse
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from loadtests import __main__ as modes
from tests.loadtests.test_thresholds import TEXT

PIDS = {"redis": 1, "qdrant": 2, "api": 3, "documents": 4, "embeddings": 5}
FLEET: Any = SimpleNamespace(state=SimpleNamespace(redis="", pids=PIDS), data=None)


def wanted(folder: Path, **more: object) -> argparse.Namespace:
    given = {"rate": 1.0, "seconds": 10, "minutes": 30.0, "report": folder, "shape": "steady", "folder": ""}
    return argparse.Namespace(thresholds=folder / "thresholds.toml", **given | more)


class Fake:
    """A locust and a clock: up to which rate a run keeps its thresholds, by its seconds."""

    def __init__(self, limits: dict[int, float]) -> None:
        self.limits, self.now, self.probes = limits, 0.0, list[tuple[float, int]]()

    def __call__(
        self, fleet: object, wanted: object, report: Path, arguments: dict[str, Any], quiet: bool
    ) -> dict[str, Any]:
        rate, seconds = arguments["rate"], int(arguments["run-time"].removesuffix("s"))
        self.probes.append((rate, seconds))
        self.now += seconds + 5
        figures = dict.fromkeys(("docs_s", "chunks_s", "searchable_p95_s"), rate) | {"search_p95_ms": None}
        is_kept = rate <= self.limits[seconds]
        return {"code": int(not is_kept), "broken": [] if is_kept else ["slow"], "figures": figures}


def capacity(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    fake: Fake,
    **more: object,
) -> tuple[int, str]:
    monkeypatch.setattr(modes, "locust", fake)
    monkeypatch.setattr(modes, "time", SimpleNamespace(monotonic=lambda: fake.now))
    code = modes.capacity(FLEET, wanted(folder, **more))
    return code, capsys.readouterr().out.splitlines()[-1]


def test_the_best_rate_is_confirmed_by_a_probe_three_times_as_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fake = Fake({10: 1.5, 30: 1.25})
    code, last = capacity(monkeypatch, capsys, tmp_path, fake)
    long = [rate for rate, seconds in fake.probes if seconds == 30]
    assert len(long) >= 2
    assert all(rate > 1.25 for rate in long[:-1])
    assert long[-1] <= 1.25
    assert last.startswith(f"capacity ok: rate={long[-1]:.3g} docs_s={long[-1]:.2f} ")
    assert last.endswith(f"search_p95_ms=nan probes={len(fake.probes)} exact=yes")
    assert code == 0
    record = json.loads((tmp_path / "capacity.json").read_text("utf-8"))
    assert len(record) == len(fake.probes)
    assert f"rate-{long[-1]:.3g}-confirmed" in record


def test_a_rate_that_there_was_no_time_to_confirm_is_not_exact(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fake = Fake({10: 1.5, 30: 1.5})
    code, last = capacity(monkeypatch, capsys, tmp_path, fake, minutes=1.5)
    assert fake.now <= 90
    assert {seconds for _, seconds in fake.probes} == {10}
    assert (code, last.rsplit(" ", 1)[1]) == (0, "exact=no")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TEXT.replace("slope_api", "slope_apis"), "no figure is called rss_slope_apis"),
        (TEXT.replace("[memory]", "[memories]"), r"there is no section \[memory\]"),
        ("[memory", "can't be used"),
        (None, "can't be used"),
    ],
)
def test_a_mistake_in_what_a_soak_may_keep_is_told_before_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None, says: str
) -> None:
    monkeypatch.setattr(modes, "locust", lambda *_, **__: pytest.fail("it has begun"))
    monkeypatch.setattr(modes, "holdings", lambda url: None)
    if text is not None:
        (tmp_path / "thresholds.toml").write_text(text, "utf-8")
    with pytest.raises(SystemExit, match=says):
        modes.soak(FLEET, wanted(tmp_path))


class Watched:
    """A watch of a fleet whose embedding worker was never seen."""

    def __init__(self, data: object) -> None:
        self.rss = dict[str, list[tuple[float, float]]]()

    def __enter__(self) -> "Watched":
        return self

    def __exit__(self, *_: object) -> None: ...

    def write(self, path: Path) -> None: ...

    def figures(self, began: float, ended: float) -> dict[str, float]:
        assert (began, ended) == (7.0, 1207.0)
        return {"restarts": 0.0, "rss_slope_api": 1.0, "rss_slope_documents": 2.0}


def test_memory_that_was_not_seen_is_not_level(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    nothing = SimpleNamespace(used=0, beyond=lambda before: {})
    run = {"broken": [], "span": [7.0, 1207.0], "figures": {"uploads": 9}}
    monkeypatch.setattr(modes, "locust", lambda *_, **__: run)
    monkeypatch.setattr(modes, "holdings", lambda url: nothing)
    monkeypatch.setattr(modes, "settled", lambda url, before: nothing)
    monkeypatch.setattr(modes, "Watch", Watched)
    (tmp_path / "thresholds.toml").write_text(TEXT, "utf-8")
    assert modes.soak(FLEET, wanted(tmp_path)) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "soak failed: rss_slope_embeddings is nan, at most 60 is allowed"
