import math

import pytest

from embedfleet.contracts.errors import EmbeddingError
from embedfleet.embeddings.metrics import RecentShare, reading


def test_a_recent_share_forgets() -> None:
    now = [0.0]
    share = RecentShare(lambda: now[0], half_life=30)
    assert share.value() == share.of_time() == 0
    share.add(1, 1)
    now[0] = 30.0
    share.add(0, 1)
    assert share.value() == pytest.approx(1 / 3)


@pytest.mark.parametrize("busy", [0.25, 1.0])
def test_a_share_of_time_holds_from_the_start_and_falls_when_nothing_comes(busy: float) -> None:
    now = [0.0]
    share = RecentShare(lambda: now[0], half_life=30)
    for _ in range(20):
        now[0] += 0.1
        share.add(0.1 * busy, 0.1)
    assert share.of_time() == pytest.approx(busy, rel=0.02)
    for _ in range(6000):
        now[0] += 0.1
        share.add(0.1 * busy, 0.1)
    assert share.of_time() == pytest.approx(busy, rel=0.02)
    now[0] += 30
    assert share.of_time() == pytest.approx(busy / 2, rel=0.02)


def test_a_device_that_does_not_answer_does_not_break_the_page() -> None:
    def dead() -> int:
        raise EmbeddingError("the GPU no longer answers")

    assert reading(lambda: 3)() == 3
    assert math.isnan(reading(dead)())
