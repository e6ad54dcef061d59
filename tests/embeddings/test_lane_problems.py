"""When the embedding worker says that its lane is broken for good."""

import math
from types import SimpleNamespace

import pytest

from embedfleet.embeddings import tasks


@pytest.mark.parametrize(
    ("has_died", "busy_seconds", "said"),
    [
        (False, 0.0, []),
        (False, tasks.HUNG_SECONDS - 1, []),
        (False, tasks.HUNG_SECONDS, ["the lane hangs: a batch has been in the encoder for 630 s"]),
        (True, math.inf, ["the lane has died: nothing is encoded any more"]),
        (False, math.inf, []),
    ],
    ids=["well", "slow", "hangs", "died", "closed"],
)
def test_only_a_lane_that_died_or_hangs_is_a_problem(
    has_died: bool, busy_seconds: float, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = SimpleNamespace(has_died=has_died, busy_seconds=busy_seconds)
    monkeypatch.setattr(tasks, "_engine", SimpleNamespace(lane=lane), raising=False)
    assert tasks._problems() == said
