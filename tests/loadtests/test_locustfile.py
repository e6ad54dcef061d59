"""What the load test counts, measures and leaves, against an API whose answers are known."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from tests.loadtests.stand_in import Answer, Asked, StandIn
from tests.loadtests.test_mix import TEXT

ROOT = Path(__file__).parents[2]
VENV = Path(os.environ.get("LOAD_VENV", ROOT / ".venv-load"))
SEEDS = 10
# Where the tests were started in the background, an interruption is ignored by all that they start.
HEEDING = "import os, signal, sys; signal.signal(2, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
THRESHOLDS = "[steady]\nmax_errors = 0\nmax_lost = 0\nmax_given_up = 0\n"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (VENV / "bin" / "locust").exists(), reason=f"no locust in {VENV}: `make load` installs it"
    ),
]


class Load:
    """A run of locust against a stand-in, with small files that nobody revokes or changes."""

    def __init__(self, api: StandIn, folder: Path) -> None:
        self.api, self.report = api, folder / "report"
        self._mix, self._thresholds = folder / "mix.toml", folder / "thresholds.toml"
        self.thresholds = THRESHOLDS
        small = re.sub(r"(large|medium) = \d\b", r"\1 = 0", TEXT)
        self._mix.write_text(re.sub(r"(revoked|changed) = \d+", r"\1 = 0", small), "utf-8")
        self.pid = 0

    def run(self, *options: str | Path, rate: int = 10, seconds: int = 1) -> int:
        """Run it; return its exit code. Its standard output is in `said`."""
        self._thresholds.write_text(self.thresholds, "utf-8")
        command: list[str | Path] = [sys.executable, "-c", HEEDING, VENV / "bin" / "python"]
        command += ["-m", "locust", "-f", "loadtests/locustfile.py"]
        command += ["--headless", "--only-summary", "--host", self.api.url, "--report", self.report]
        command += ["--mix", self._mix, "--thresholds", self._thresholds, "--idle", "0.2", "--drain", "5"]
        command += ["--rate", str(rate), "--run-time", f"{seconds}s", *options]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"FLEET_API_KEY": "k"},
        )
        self.pid = process.pid
        try:
            said, log = process.communicate(timeout=90)
        finally:
            process.kill()
        self.said, self.log = said.decode().splitlines(), log.decode()
        return process.returncode

    @property
    def summary(self) -> dict[str, Any]:
        return dict(json.loads((self.report / "summary.json").read_text("utf-8"), parse_constant=pytest.fail))

    @property
    def figures(self) -> dict[str, Any]:
        return dict(self.summary["figures"])

    def rows(self, name: str) -> list[dict[str, str]]:
        with (self.report / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    @property
    def deleted(self) -> list[str]:
        return [one.path.rsplit("/", 1)[1] for one in self.api.of("delete")]


@pytest.fixture
def api() -> Iterator[StandIn]:
    with StandIn() as found:
        yield found


@pytest.fixture
def load(api: StandIn, tmp_path: Path) -> Load:
    return Load(api, tmp_path)


def test_searches_that_are_answered_late_are_waited_for(api: StandIn, load: Load) -> None:
    """Those of the last seconds would be in no figure."""

    def slow(asked: Asked) -> str:
        if not json.loads(asked.body)["filter"]["document_ids"]:
            threading.Event().wait(2.5)
        return "usual"

    api.answers["search"] = slow
    assert load.run() == 0, load.log
    sent = [one for one in api.of("search") if not json.loads(one.body)["filter"]["document_ids"]]
    rows = load.rows("searches")
    assert len(rows) == len(sent) >= 5
    assert load.figures["search_p95_ms"] >= 2500
    assert load.deleted == [load.summary["collection"]]
    assert not load.summary["is_left"]


def test_what_comes_late_is_told_and_measured_from_when_it_was_due(api: StandIn, load: Load) -> None:
    def stop(asked: Asked) -> str:
        if asked.number == SEEDS + 5:
            os.kill(load.pid, signal.SIGSTOP)
            threading.Timer(1.5, os.kill, (load.pid, signal.SIGCONT)).start()
        return "usual"

    api.answers["upload"] = stop
    load.thresholds += "max_late_s = 1\n"
    assert load.run(seconds=2) == 1
    assert load.figures["late_s"] > 1
    (broken,) = load.summary["broken"]
    assert re.fullmatch(r"late_s is \S+, at most 1 is allowed", broken)
    assert max(float(row["milliseconds"]) for row in load.rows("searches")) > 1000
    waits = [float(row["ended"]) - float(row["due"]) for row in load.rows("uploads")]
    # The one that was under way, and those that were due meanwhile.
    assert len([wait for wait in waits[SEEDS:] if wait > 0.5]) >= 5
    dues = sorted(float(row["due"]) for row in load.rows("uploads"))[SEEDS:]
    assert dues[-1] - dues[0] == pytest.approx(1.9)


def test_an_upload_that_is_refused_to_the_last_is_given_up_and_counted(api: StandIn, load: Load) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)

    def refuse(asked: Asked) -> Answer | str:
        if asked.number <= SEEDS:
            return "usual"
        return Answer(503, headers={"Retry-After": later if asked.number % 2 else "3600"})

    api.answers["upload"] = refuse
    assert load.run() == 1
    assert (load.figures["refused"], load.figures["given_up"], load.figures["errors"]) == (10, 10, 0)
    assert load.summary["broken"] == ["given_up is 10, at most 0 is allowed"]
    assert load.figures["searchable_p95_s"] is None


def test_a_collection_is_deleted_when_the_first_documents_are_not_ready_in_time(
    api: StandIn, load: Load
) -> None:
    parsing = {"document": {"state": "PARSING", "progress": {"total": None}, "error": None}}
    api.answers["task"] = lambda asked: Answer(200, parsing)
    assert load.run("--seed-seconds", "1") == 1
    assert "are not READY within 1 s" in load.log
    assert load.deleted == [load.summary["collection"]]


def test_a_collection_is_deleted_after_an_interruption(api: StandIn, load: Load) -> None:
    def interrupt(asked: Asked) -> str:
        if asked.number == SEEDS + 3:
            os.kill(load.pid, signal.SIGINT)
        return "usual"

    api.answers["upload"] = interrupt
    assert load.run(seconds=20) == 1
    assert load.summary["broken"][0] == "the run was ended before its time"
    assert load.deleted == [load.summary["collection"]]


def test_a_key_goes_nowhere_else(api: StandIn, load: Load) -> None:
    with StandIn() as other:
        api.answers["task"] = lambda asked: Answer(307, headers={"Location": f"{other.url}{asked.path}"})
        assert load.run("--seed-seconds", "1") == 1
        assert other.asked == []
    assert api.of("task")[0].headers["X-API-Key"] == "k"
    assert load.figures["errors"] > SEEDS


def test_what_is_cut_off_is_asked_for_once_more_only(api: StandIn, load: Load) -> None:
    api.answers["task"] = lambda asked: None if asked.path.endswith("/t1") else "usual"
    assert load.run("--seed-seconds", "1") == 1
    asked = len([one for one in api.of("task") if one.path.endswith("/t1")])
    # One error is that the first documents are not READY, and the last poll is cut short by it.
    assert 2 <= asked <= 2 * load.figures["errors"]


def test_a_folder_of_any_names_is_sent_and_what_is_not_is_told(
    api: StandIn, load: Load, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    (folder / "bến\nphà").mkdir(parents=True)
    for name in ('bến\nphà/giờ "mở" cửa.txt', "a\tb.md", os.fsdecode(b"caf\xe9.docx")):
        (folder / name).write_bytes(b"x" * 100)
    (folder / "sơ đồ.png").write_bytes(b"x")
    (folder / "empty.txt").touch()
    assert load.run("--folder", folder, "--keep") == 0, load.log
    paths = {'bến_phà/giờ "mở" cửa.txt', "a_b.md", "caf_.docx"}
    keys = [one.form("document_key") for one in api.of("upload")]
    assert {key.split("/", 1)[1] for key in keys} == paths
    assert [int(key.split("/")[0]) for key in sorted(keys, key=lambda key: int(key.split("/")[0]))] == [
        *range(1, SEEDS + 11)
    ]
    assert {one.form("file") for one in api.of("upload")} == {"giờ %22mở%22 cửa.txt", "a_b.md", "caf_.docx"}
    assert {row["name"] for row in load.rows("uploads")} == paths
    assert {row["kind"] for row in load.rows("uploads")} == {"txt small", "md small", "docx small"}
    assert load.summary["left_out"] == ["empty.txt", "sơ đồ.png"]
    assert "2 files of the folder were left out: empty.txt, sơ đồ.png" in "\n".join(load.said)
    assert f"the collection {load.summary['collection']} is left" in load.said[-3]
    assert load.said[-1].startswith("load ok: uploads=10 errors=0 lost=0 ")
    assert load.deleted == []
