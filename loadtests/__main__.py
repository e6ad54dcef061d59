"""`python -m loadtests load | capacity | soak`: a real fleet on this machine, and locust against it."""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from benchmarks.bench.machine import processor, threads
from benchmarks.stage.fleet import Fleet
from dashboards.prometheus import members, recording

from loadtests.capacity import Climb
from loadtests.memory import STORES, Watch, holdings, settled
from loadtests.thresholds import Thresholds

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).parent
MB = 1_000_000
SECONDS = {"load": 180, "capacity": 60, "soak": 1200}
# What `[memory]` may ask for, beside the slope of each process.
MEMORY = ("restarts", "redis_work_keys", "redis_kb_an_upload")
SHAPES = {"load": "steady", "capacity": "steady", "soak": "soak"}
CAPACITY_MINUTES = 30.0
PROBE_IDLE_SECONDS = 10
# A probe that was too much is given up late enough to have emptied the queue for the next one.
PROBE_DRAIN_SECONDS = 300
# A queue that grows slowly shows in a longer probe.
CONFIRM_TIMES = 3
# Details of ended tasks are kept for an hour by default: longer than the soak waits for its base line.
SOAK_SETTINGS = {"FLEET_RESULT_EXPIRES": "60"}


def locust(
    fleet: Fleet,
    wanted: argparse.Namespace,
    report: Path,
    arguments: Mapping[str, object],
    quiet: bool = False,
) -> dict[str, Any]:
    """Run locust against a fleet; return its summary, with the exit code as `code`.

    Args:
        fleet: that is up.
        wanted: what was asked for.
        report: folder to write to.
        arguments: of the locustfile.
        quiet: its last words go to its log, too.

    Raises:
        RuntimeError: it ended without one.
    """
    report.mkdir(parents=True, exist_ok=True)
    (report / "summary.json").unlink(missing_ok=True)
    command = [
        str(_python()),
        "-m",
        "locust",
        "-f",
        str(HERE / "locustfile.py"),
        "--headless",
        "--only-summary",
    ]
    command += ["--host", fleet.state.url, "--report", str(report)]
    command += ["--csv", str(report / "requests"), "--html", str(report / "report.html")]
    for name, value in arguments.items():
        command += [f"--{name}", str(value)]
    command += wanted.options
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    log = (report / "locust.log").open("w", encoding="utf-8")
    with log:
        done = subprocess.run(  # noqa: S603 — a command of ours
            command,
            cwd=ROOT,
            env={**environment, "PYTHONPATH": str(ROOT)},
            check=False,
            stdout=log if quiet else None,
            stderr=log,
        )
    try:
        found: dict[str, Any] = json.loads((report / "summary.json").read_text("utf-8"))
    except OSError:
        tail = (report / "locust.log").read_text("utf-8").splitlines()[-3:]
        raise RuntimeError(f"locust ended with {done.returncode}: {' | '.join(tail)}") from None
    return found | {"code": done.returncode}


def load(fleet: Fleet, wanted: argparse.Namespace) -> int:
    """One run at a fixed rate; its last line is the result."""
    return int(locust(fleet, wanted, wanted.report, _arguments(wanted))["code"])


def capacity(fleet: Fleet, wanted: argparse.Namespace) -> int:
    """Probe rate after rate, and say the highest that kept the thresholds."""
    climb, figures, record = Climb(wanted.rate), dict[float, dict[str, float]](), dict[str, Any]()
    deadline, usual, rest = time.monotonic() + wanted.minutes * 60, wanted.seconds or SECONDS["capacity"], 0.0
    while not climb.is_done:
        began, rate, seconds = time.monotonic(), climb.next(), usual * (CONFIRM_TIMES if climb.is_near else 1)
        if record and began + seconds + rest > deadline:
            break
        arguments = _arguments(wanted) | {"rate": rate, "section": "capacity", "word": "probe"}
        arguments |= {"run-time": f"{seconds}s", "idle": PROBE_IDLE_SECONDS, "drain": PROBE_DRAIN_SECONDS}
        name = f"rate-{rate:.3g}" + ("-confirmed" if climb.is_near else "")
        record[name] = run = locust(fleet, wanted, wanted.report / name, arguments, quiet=True)
        climb.note(rate, run["code"] == 0)
        figures[rate], rest = _figures(run), max(rest, time.monotonic() - began - seconds)
        said = "; ".join(run["broken"]) or "sustained"
        print(f"{rate:.3g} uploads/s for {seconds} s: {said}", flush=True)
    (wanted.report / "capacity.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    if climb.best is None:
        print("capacity failed: no rate that was tried kept the thresholds; give a lower RATE")
        return 1
    best = figures[climb.best]
    print(
        f"capacity ok: rate={climb.best:.3g} docs_s={best['docs_s']:.2f}"
        f" chunks_s={best['chunks_s']:.1f} searchable_p95_s={best['searchable_p95_s']:.2f}"
        f" search_p95_ms={best['search_p95_ms']:.0f} probes={len(record)}"
        f" exact={'yes' if climb.is_done else 'no'}"
    )
    return 0


def soak(fleet: Fleet, wanted: argparse.Namespace) -> int:
    """One long run in waves, with an eye on memory; afterwards Redis holds what it held before.

    Raises:
        SystemExit: the section `[memory]` can't be used; the text says why.
    """
    nothing = dict.fromkeys((*MEMORY, *(f"rss_slope_{name}" for name in fleet.state.pids)), math.nan)
    thresholds = _of_memory(wanted.thresholds, nothing)
    before = holdings(fleet.state.redis)
    with Watch(fleet.data) as watch:
        run = locust(fleet, wanted, wanted.report, _arguments(wanted) | {"word": "soak run"})
        after = settled(fleet.state.redis, before)
    watch.write(wanted.report / "memory.csv")
    left, line = after.beyond(before), _figures(run)
    figures = nothing | watch.figures(*run["span"])
    figures["redis_work_keys"] = float(sum(left.values()))
    figures["redis_kb_an_upload"] = (after.used - before.used) / 1000 / max(line["uploads"], 1)
    broken = [*run["broken"], *thresholds.broken(figures)]
    print(f"redis: {before.used / MB:.1f} MB before, {after.used / MB:.1f} MB after; left: {left or 'none'}")
    for name, points in watch.rss.items():
        grown, kind = figures[f"rss_slope_{name}"], " (a store)" if name.startswith(STORES) else ""
        print(f"{name}{kind}: {points[-1][1] / MB:.0f} MB at the end, {grown:+.0f} MB an hour")
    if broken:
        print(f"soak failed: {'; '.join(broken)}")
        return 1
    slopes = {name: grown for name, grown in figures.items() if name.startswith("rss_slope")}
    worst = max(grown for name, grown in slopes.items() if not name.endswith(STORES))
    print(
        f"soak ok: uploads={line['uploads']} errors={line['errors']} lost={line['lost']}"
        f" searchable_p95_s={line['searchable_p95_s']:.2f} search_p95_ms={line['search_p95_ms']:.0f}"
        f" rss_mb_an_hour={worst:.0f} redis_kb_an_upload={figures['redis_kb_an_upload']:.2f}"
    )
    return 0


MODES = {"load": load, "capacity": capacity, "soak": soak}


def main(arguments: Sequence[str] | None = None) -> int:
    """Start a fleet, run a mode against it, stop it; 1 when a threshold was not kept."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests",
        description=__doc__,
        epilog="Further options are the locustfile's.",
        allow_abbrev=False,
    )
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("--rate", type=float, default=1.0, help="uploads a second; of capacity the first try")
    parser.add_argument("--seconds", type=int, help="of uploads; of capacity those of one probe")
    parser.add_argument("--minutes", type=float, default=CAPACITY_MINUTES, help="of capacity, all in all")
    parser.add_argument("--shape", help="steady, spike or soak")
    parser.add_argument("--folder", default="", help="of files to upload, instead of generated ones")
    parser.add_argument("--thresholds", type=Path, default=HERE / "thresholds.toml", help="file to keep to")
    parser.add_argument("--record", action="store_true", help="let Prometheus record, for pictures")
    parser.add_argument("--report", type=Path, default=Path("load-report"), help="folder to write to")
    wanted, options = parser.parse_known_args(arguments)
    wanted.options = options
    wanted.report = wanted.report.resolve()
    print(f"{threads()} threads of {processor()}; the report is in {wanted.report}", flush=True)
    with tempfile.TemporaryDirectory(prefix="load-") as folder:
        settings = SOAK_SETTINGS if wanted.mode == "soak" else {}
        with Fleet(Path(folder) / "fleet", **settings) as fleet, _recording(fleet, wanted):
            return MODES[wanted.mode](fleet, wanted)


def _recording(fleet: Fleet, wanted: argparse.Namespace) -> AbstractContextManager[object]:
    """Record the run where that was asked for."""
    if not wanted.record:
        return nullcontext()
    return recording(wanted.report / "prometheus", members(fleet.state.url, fleet.state.pids))


def _arguments(wanted: argparse.Namespace) -> dict[str, object]:
    return {
        "rate": wanted.rate,
        "run-time": f"{wanted.seconds or SECONDS[wanted.mode]}s",
        "shape": wanted.shape or SHAPES[wanted.mode],
        "thresholds": wanted.thresholds.resolve(),
        **({"folder": wanted.folder} if wanted.folder else {}),
    }


def _of_memory(path: Path, figures: Mapping[str, float]) -> Thresholds:
    try:
        thresholds = Thresholds.parse(path.read_text("utf-8"), "memory")
        thresholds.broken(figures)  # all names are known
    except (ValueError, OSError) as error:
        raise SystemExit(f"{path} can't be used: {error}") from None
    return thresholds


def _figures(run: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a summary: JSON knows no NaN."""
    return {name: math.nan if value is None else value for name, value in run["figures"].items()}


def _python() -> Path:
    """Return the interpreter that has locust: of `LOAD_VENV`, else of `.venv-load`."""
    path = Path(os.environ.get("LOAD_VENV", ROOT / ".venv-load")) / "bin" / "python"
    if not path.exists():
        raise SystemExit(f"{path} is missing: `make load` installs it, or set LOAD_VENV")
    return path


if __name__ == "__main__":
    sys.exit(main())
