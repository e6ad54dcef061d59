"""Results of scenarios, the last line, and the receipt."""

import json
import platform
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tests.chaos.judge.checker import Verdict

STAGE_HITS = 5
"""How often faults must land in each stage of work in the long form."""

STAGES = ("accept", "queue", "parse", "sandbox", "store", "embed", "upsert", "flip")
"""The stages of the work: the upload is durable but not in the ledger; the message is popped and in no
key; the file is read, by its worker and by the sandbox child; the chunks are stored but the ledger does
not know; chunks are embedded; points are on their way; all are stored but the ledger does not know."""


@dataclass(slots=True)
class Result:
    """What came of one scenario.

    Attributes:
        name: such as C2.
        verdict: the checker's.
        problems: what the scenario itself found wrong, one line each.
        recovery_s: the longest time from the end of a fault until the work went on.
        hits: faults by the stage of the work that they landed in.
        figures: what was measured, for the receipt.
        skipped: faults that this machine does not allow, with the reason.
        seconds: how long it took.
    """

    name: str
    verdict: Verdict = field(default_factory=Verdict)
    problems: list[str] = field(default_factory=list)
    recovery_s: float = 0.0
    hits: Counter[str] = field(default_factory=Counter)
    figures: dict[str, float] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def faults(self) -> list[str]:
        """Everything that is wrong, one line each."""
        verdict = self.verdict
        kinds = {
            "lost": verdict.lost,
            "duplicate": verdict.duplicates,
            "orphan": verdict.orphans,
            "regression": verdict.regressions,
            "problem": self.problems,
        }
        return [f"{self.name} {kind}: {line}" for kind, lines in kinds.items() for line in lines]


def total_hits(results: Sequence[Result]) -> Counter[str]:
    """Return the faults of all scenarios by the stage that they landed in."""
    return sum((result.hits for result in results), Counter())


def missed_stages(results: Sequence[Result]) -> list[str]:
    """Return the stages that were hit too seldom to prove anything, one line each."""
    hits = total_hits(results)
    return [
        f"only {hits[stage]} faults hit the stage {stage}" for stage in STAGES if hits[stage] < STAGE_HITS
    ]


def last_line(results: Sequence[Result]) -> str:
    """Return the one line that says how it went."""
    verdicts = [result.verdict for result in results]
    counts = {
        "scenarios": len(results),
        "accepted": sum(one.accepted for one in verdicts),
        "ready": sum(one.ready for one in verdicts),
        "failed_coded": sum(one.failed_coded for one in verdicts),
        "lost": sum(len(one.lost) for one in verdicts),
        "duplicates": sum(len(one.duplicates) for one in verdicts),
        "orphans": sum(len(one.orphans) for one in verdicts),
        "regressions": sum(len(one.regressions) for one in verdicts),
    }
    worst = max((result.recovery_s for result in results), default=0.0)
    word = "FAILED" if any(result.faults for result in results) else "ok"
    pairs = " ".join(f"{name}={count}" for name, count in counts.items())
    return f"chaos {word}: {pairs} worst_recovery_s={worst:.1f}"


def write_receipt(path: Path, results: Sequence[Result], seed: int, settings: dict[str, object]) -> None:
    """Write everything as JSON; the same seed gives the same schedule of faults."""
    receipt = {
        "line": last_line(results),
        "seed": seed,
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": f"{platform.system()} {platform.machine()}, Python {sys.version.split()[0]}",
        "settings": settings,
        "hits": dict(total_hits(results)),
        "scenarios": [_as_dict(result) for result in results],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(receipt, indent=2) + "\n", "utf-8")


def _as_dict(result: Result) -> dict[str, object]:
    # asdict makes a Counter's keys pairs.
    return asdict(replace(result, hits=Counter())) | {"hits": dict(result.hits)}
