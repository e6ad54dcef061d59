"""The long form: ``python -m tests.saturation``; the last line is the result."""

import sys
import tempfile
from pathlib import Path

from tests.e2e.fleet import running_fleet
from tests.saturation.run import Plan, problems, saturate
from tests.saturation.watch import MB

PLAN = Plan(documents=200, tokens=60_000, sentences=60, tries=100, seconds=90)


def main() -> int:
    """Run it and say what was seen; 1 when something did not hold."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_fleet(Path(folder) / "data", **PLAN.settings) as fleet,
    ):
        outcome = saturate(fleet, PLAN)
    peaks, rest = outcome.peaks, outcome.at_rest
    print(f"sustainable rate {outcome.rate:.1f} documents/s, offered {PLAN.times:g} times that")
    print(f"answers {dict(outcome.tally.statuses)} {dict(outcome.tally.codes)}")
    print(f"slowest answer {outcome.tally.slowest:.2f} s; all done after {outcome.seconds:.0f} s")
    print(f"lists {peaks.lists}; document workers were {'' if peaks.was_held else 'never '}held")
    for member, rss in peaks.rss.items():
        print(f"{member}: {rest.rss[member] / MB:.0f} MB before, {rss / MB:.0f} MB at most")
    print(f"redis: {rest.redis / MB:.1f} MB before, {peaks.redis / MB:.1f} MB at most")
    if wrong := problems(outcome, PLAN):
        print("saturation failed: " + "; ".join(wrong))
        return 1
    print(outcome.line())
    return 0


if __name__ == "__main__":
    sys.exit(main())
