"""Three times what the fleet can do, with small limits: what is accepted is READY in the end."""

from pathlib import Path

import pytest

from tests.e2e.fleet import running_fleet
from tests.saturation.run import Plan, problems, saturate

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.xdist_group("saturation")]

PLAN = Plan(documents=20, tokens=8_000, sentences=30, tries=20, seconds=15)


def test_what_is_accepted_under_three_times_the_load_finishes(tmp_path: Path) -> None:
    with running_fleet(tmp_path / "data", **PLAN.settings) as fleet:
        outcome = saturate(fleet, PLAN)
    assert problems(outcome, PLAN) == [], f"{outcome.line()} at {outcome.rate:.1f} documents/s"
    assert outcome.peaks.was_held, "documents waited for the embeddings at least once"
