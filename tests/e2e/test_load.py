"""Short load tests: a run that keeps its thresholds, and one that doesn't."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from dashboards.prometheus import binary, recorded

from tests.e2e.fleet import ROOT, Fleet

VENV = Path(os.environ.get("LOAD_VENV", ROOT / ".venv-load"))
LOCUST = VENV / "bin" / "locust"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.xdist_group("fleet"),
    pytest.mark.skipif(not LOCUST.exists(), reason=f"no locust in {VENV}: `make load` installs it"),
]

LAST_LINE = re.compile(
    r"load ok: uploads=(\d+) errors=0 lost=0 searchable_p95_s=\d+\.\d\d search_p95_ms=\d+"
    r" docs_s=\d+\.\d\d chunks_s=\d+\.\d"
)
KEPT = "[steady]\nmin_uploads = 15\n" + "".join(
    f"max_{figure} = 0\n" for figure in ("errors", "lost", "failed", "refused", "given_up")
)
OPTIONS = ("--idle", "1", "--seed", "5")
RECORD = ("--record",) if binary() else ()


@pytest.fixture
def mix(tmp_path: Path) -> Path:
    """The mix without its larger files: a run is short."""
    text = (ROOT / "loadtests" / "mix.toml").read_text("utf-8")
    small, count = re.subn(r"(large|medium) = \d\b", r"\1 = 0", text)
    assert count == 7
    path = tmp_path / "mix.toml"
    path.write_text(small, "utf-8")
    return path


def run(command: list[str | Path], seconds: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)


def test_a_run_that_keeps_its_thresholds_ends_with_its_line_and_a_report(tmp_path: Path, mix: Path) -> None:
    thresholds, report = tmp_path / "thresholds.toml", tmp_path / "report"
    thresholds.write_text(KEPT, "utf-8")
    command = [sys.executable, "-m", "loadtests", "load", "--rate", "3", "--seconds", "5", "--report", report]
    done = run([*command, *OPTIONS, *RECORD, "--mix", mix, "--thresholds", thresholds], seconds=240)
    assert done.returncode == 0, done.stdout + done.stderr
    last = LAST_LINE.fullmatch(done.stdout.splitlines()[-1])
    assert last, done.stdout
    summary = json.loads((report / "summary.json").read_text("utf-8"))
    figures = summary["figures"]
    assert not summary["is_left"]
    assert int(last[1]) == figures["uploads"] >= 15
    assert figures["search_idle_p95_ms"] > 0
    assert figures["searches"] > 0
    with (report / "uploads.csv").open(encoding="utf-8", newline="") as file:
        fates = [row["fate"] for row in csv.DictReader(file)]
    assert set(fates) <= {"READY", "REVOKED"}
    assert len(fates) == figures["uploads"] + 10, "the seeds are in the file, too"
    assert ElementTree.parse(report / "load.svg").getroot().tag.endswith("svg")
    assert (report / "load.png").read_bytes().startswith(b"\x89PNG")
    assert "upload to searchable" in (report / "report.html").read_text("utf-8")
    assert "upload to searchable" in (report / "requests_stats.csv").read_text("utf-8")
    if RECORD:
        span = recorded(report / "prometheus")
        assert span.end - span.begin > 5


def test_a_run_that_breaks_a_threshold_ends_with_1_and_says_which(
    fleet: Fleet, tmp_path: Path, mix: Path
) -> None:
    thresholds = tmp_path / "thresholds.toml"
    thresholds.write_text("[steady]\nmin_uploads = 1000\nmax_lost = 0\n", "utf-8")
    command = [VENV / "bin" / "python", "-m", "locust", "-f", "loadtests/locustfile.py", "--headless"]
    command += ["--host", fleet.ready["url"], "--rate", "2", "--run-time", "3s", "--report", tmp_path]
    done = run([*command, *OPTIONS, "--mix", mix, "--thresholds", thresholds], seconds=120)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.fullmatch(r"load failed: uploads is \d+, at least 1000 is wanted", done.stdout.splitlines()[-1])
