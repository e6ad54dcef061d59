"""Results of scenarios, the last line, and the receipt."""

import json
import platform
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.chaos.checker import Verdict

STAGE_HITS = 5
"""How often faults must land in each stage of work in the long form."""


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
        seconds: how long it took.
    """

    name: str
    verdict: Verdict = field(default_factory=Verdict)
    problems: list[str] = field(default_factory=list)
    recovery_s: float = 0.0
    hits: Counter[str] = field(default_factory=Counter)
    figures: dict[str, float] = field(default_factory=dict)
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
        "scenarios": [asdict(result) for result in results],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(receipt, indent=2) + "\n", "utf-8")
