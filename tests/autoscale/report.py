"""What the arms came to: what did not hold, the last line, the table, the receipt, the docs."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bench.machine import describe
from benchmarks.bench.publish import RESULTS, replaced
from benchmarks.bench.table import Row, markdown

from tests.autoscale import plot
from tests.autoscale.arms import CHART, POOLS, QUEUED_ONLY
from tests.autoscale.run import Outcome
from tests.deploy.chart import ROOT

BUILD = ROOT / "build" / "autoscale"
DOCS = ROOT / "docs" / "autoscaling.md"
BEGIN = "<!-- make autoscale-check ARGS=--publish writes this -->"
HEAD = (
    "rules",
    "drained in, s",
    "worker-seconds",
    "pods at rest",
    "most pods",
    "pods scaled in",
    "of them at work",
    "runs cut",
    "flaps",
    "taken by others",
)


def problems(outcomes: Sequence[Outcome], wanted: int) -> list[str]:
    """Return what did not hold, one line each.

    Args:
        outcomes: of all arms.
        wanted: documents that each had to make READY.
    """
    found = [f"{one.arm}: {line}" for one in outcomes for line in _of_any(one, wanted)]
    return found + [f"{CHART.name}: {line}" for line in _of_chart(_of(outcomes, CHART.name))]


def last_line(outcomes: Sequence[Outcome], wrong: Sequence[str]) -> str:
    """Return the line that says how it went; losses and duplicates are those of all arms."""
    ours = _of(outcomes, CHART.name)
    pairs = {
        "documents": ours.documents,
        "lost": sum(len(one.lost) for one in outcomes),
        "duplicates": sum(len(one.duplicates) for one in outcomes),
        "peak_documents": ours.peaks.get("documents", 0),
        "peak_embeddings": ours.peaks.get("embeddings", 0),
        "drain_s": f"{ours.drain_s:.1f}",
        "llen_only_drain_s": f"{_of(outcomes, QUEUED_ONLY.name).drain_s:.1f}",
        "worker_seconds": f"{ours.worker_seconds:.0f}",
        "runs_cut": sum(ours.cut.values()),
        "llen_only_runs_cut": sum(_of(outcomes, QUEUED_ONLY.name).cut.values()),
    }
    words = " ".join(f"{name}={value}" for name, value in pairs.items())
    return f"autoscale {'FAILED' if wrong else 'ok'}: {words}"


def receipt(outcomes: Sequence[Outcome], factor: float, line: str, wrong: Sequence[str]) -> dict[str, Any]:
    """Return everything that was measured, with the machine and the date."""
    return {
        "line": line,
        "problems": list(wrong),
        "date": time.strftime("%Y-%m-%d"),
        "machine": describe(),
        "factor": factor,
        "arms": [one.as_dict() for one in outcomes],
    }


def rows(record: Mapping[str, Any]) -> Iterator[Row]:
    """Yield a row an arm.

    Worker-seconds count for as long as the longest arm took: pods that stay for good cost until then, too.
    """
    longest = max(arm["seconds"] for arm in record["arms"])
    for arm in record["arms"]:
        paid = arm["worker_seconds"] + arm["least"] * (longest - arm["seconds"])
        yield (
            arm["words"],
            f"{arm['drain_s']:.1f}",
            f"{paid:.0f}",
            str(arm["least"]),
            " + ".join(str(arm["peaks"][pool]) for pool in POOLS),
            f"{arm['scaled_in']}, each within {arm['slowest_end_s']:.1f} s",
            " + ".join(str(arm["busy"][pool]) for pool in POOLS),
            " + ".join(str(arm["cut"][pool]) for pool in POOLS),
            str(arm["flaps"]),
            f"{arm['others']:.0%}",
        )


def block(record: Mapping[str, Any]) -> str:
    """Return what docs/autoscaling.md shows of a record."""
    return "\n\n".join(
        [
            f"{where(record)}; all times of the rules divided by {record['factor']:g}.",
            markdown(HEAD, list(rows(record))),
            "Pods and runs: documents + embeddings.",
            "![Pods and work over time](../benchmarks/results/autoscale.svg)",
        ]
    )


def recorded() -> dict[str, Any] | None:
    """Return the record that the docs show, or None when there is none yet."""
    file = RESULTS / "autoscale.json"
    return json.loads(file.read_text("utf-8")) if file.exists() else None


def picture(record: Mapping[str, Any]) -> str:
    """Return the record's plot."""
    title = f"{where(record)}. Line: pods. Grey: tasks that wait or run. Dashed: a burst begins."
    return plot.svg(title, record["arms"])


def where(record: Mapping[str, Any]) -> str:
    """Return the date and the machine."""
    machine = record["machine"]
    return (
        f"{record['date']}, {machine['processor']}, {machine['threads']} threads, {machine['memory_gib']} GiB"
    )


def write(record: Mapping[str, Any], folder: Path = BUILD, name: str = "receipt") -> None:
    """Write a record and its plot."""
    folder.mkdir(parents=True, exist_ok=True)
    # One line an arm's list would be too long, one number a line too many: a line a key.
    (folder / f"{name}.json").write_text(_json(record) + "\n", "utf-8")
    (folder / f"{name}.svg").write_text(picture(record), "utf-8")


def publish(record: Mapping[str, Any]) -> None:
    """Keep a record with the other benchmarks' and show it in the docs."""
    write(record, RESULTS, "autoscale")
    DOCS.write_text(replaced(DOCS.read_text("utf-8"), block(record), BEGIN), "utf-8")


def _json(record: Mapping[str, Any]) -> str:
    arms = [
        "  {\n"
        + ",\n".join(f"   {json.dumps(key)}: {json.dumps(value)}" for key, value in arm.items())
        + "\n  }"
        for arm in record["arms"]
    ]
    head = json.dumps({key: value for key, value in record.items() if key != "arms"}, indent=1)
    return head.removesuffix("\n}") + ',\n "arms": [\n' + ",\n".join(arms) + "\n ]\n}"


def _of(outcomes: Sequence[Outcome], name: str) -> Outcome:
    return next(one for one in outcomes if one.arm == name)


def _of_any(one: Outcome, wanted: int) -> Iterator[str]:
    yield from (f"lost: {line}" for line in one.lost)
    yield from (f"duplicate: {line}" for line in one.duplicates)
    yield from one.problems
    if one.documents != wanted and not one.lost:
        yield f"{one.documents} of {wanted} documents are READY"


def _of_chart(one: Outcome) -> Iterator[str]:
    for pool in POOLS:
        pods = [count for _, count in one.steps.get(pool, [])]
        if not pods:
            yield f"{pool} never left zero"
        elif pods[-1] != 0:
            yield f"{pool} ended with {pods[-1]} pods, not at 0"
    if not one.scaled_in:
        yield "no pod was told to end: nothing was shown of scaling in"
    elif not sum(one.busy.values()):
        yield (
            "no pod that held tasks was told to end: the last documents didn't outlast the window "
            "(make them longer: load.TAIL_CHARACTERS)"
        )
