"""`python -m tests.chaos.selftest`: the suite can fail, and for the right reason.

Each safety is taken out in turn, and the scenario that guards it must fail; one loss, one duplicate and
one orphan are planted, and the checker must find each. Ends with 1 when anything goes unnoticed.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from tests.chaos.judge.report import Result
from tests.chaos.run import run
from tests.chaos.scenarios import LONG
from tests.chaos.stack import LONG_SHAPE

LEASE_SECONDS = 5.0

BREAKS = {
    "janitor": ("C1", "popped-documents.txt is READY"),
    "fence": ("C9", "the stale owner learns of it"),
    "release": ("C8", "still holds"),
}
"""What is taken out → the scenario that must fail, and what it has to say."""

PLANTED = ("loss", "duplicate", "orphan")
PLANTED_IN = "C18"


def main() -> int:
    """Break and plant, one after the other; print a line each."""
    print("the fleet has   scenario  found")
    unnoticed = 0
    whole = replace(LONG_SHAPE, lease_seconds=LEASE_SECONDS, scan_seconds=1)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        for safety, (name, words) in BREAKS.items():
            shape = replace(whole, sabotage=safety)
            result = run(name, LONG[name], Path(folder, safety), shape, seed=1)
            unnoticed += _tell(f"no {safety}", result, words)
        for plant in PLANTED:
            result = run(PLANTED_IN, LONG[PLANTED_IN], Path(folder, plant), whole, seed=1, plant=plant)
            unnoticed += _tell(f"one {plant}", result, {"loss": "lost"}.get(plant, plant))
    word = "FAILED" if unnoticed else "ok"
    print(f"chaos selftest {word}: broken={len(BREAKS)} planted={len(PLANTED)} unnoticed={unnoticed}")
    return 1 if unnoticed else 0


def _tell(what: str, result: Result, words: str) -> bool:
    """Print what was found; say whether it went unnoticed."""
    found = [line for line in result.faults if words in line]
    print(f"{what:<15} {result.name:<9} {found[0] if found else f'NOT NOTICED; {result.faults}'}", flush=True)
    return not found


if __name__ == "__main__":
    sys.exit(main())
