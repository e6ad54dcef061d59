"""Memory in a soak: slopes, and what Redis may keep."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from loadtests.arrivals import WAVE_SECONDS
from loadtests.memory import MB, Holdings, Watch, holdings, slope
from loadtests.memory import _resident as resident_bytes

from embedfleet.local.datadir import DataDir
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.ledger.redis_client import connect

LEAK = 100 * MB / 3600


def resident(seconds: int, leak: float = 0.0, warm: float = 900.0) -> list[tuple[float, float]]:
    """Return what a worker holds: it warms up, breathes with the waves, and gives back in the drain."""
    points = []
    for at in range(0, seconds + 300, 5):
        wave = 10 * MB * math.sin(2 * math.pi * at / WAVE_SECONDS) if at < seconds else -10 * MB
        points.append((float(at), 439 * MB + 80 * MB * min(at / warm, 1.0) + wave + leak * at))
    return points


@pytest.mark.parametrize("began", [0.0, 37.0])
def test_the_slope_is_a_leaks_alone(began: float) -> None:
    for leak in (0.0, LEAK):
        points = [(at + began, value) for at, value in resident(1200, leak)]
        assert slope(points, began, began + 1200) == pytest.approx(leak, abs=MB / 3600)


def test_a_warm_up_that_goes_on_is_no_level() -> None:
    assert slope(resident(1200, warm=1200.0), 0.0, 1200.0) * 3600 / MB == pytest.approx(240)


def test_one_whole_wave_after_the_warm_up_tells_nothing() -> None:
    assert math.isnan(slope(resident(796), 0.0, 796.0))
    # The seconds between are 799.9999999999964.
    began, ended = 32383.276 - 32369.979, 32383.276 + 800 - 32369.979
    assert not math.isnan(slope(resident(900), began, ended))
    assert math.isnan(slope(resident(1200)[:-120], 0.0, 1200.0)), "it is gone since the last wave"


def test_figures_are_in_mb_an_hour_and_from_the_seconds_of_the_system(tmp_path: Path) -> None:
    rss = {"api": [(float(at), MB * at / 3600) for at in range(1300)]}
    found = Watch(DataDir(tmp_path), rss=rss, began=5000.0).figures(5050.0, 6250.0)
    assert found == {"restarts": 0.0, "rss_slope_api": pytest.approx(1.0)}


def test_a_child_that_ends_meanwhile_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def process(*sizes: int | None) -> Any:
        size, *children = sizes

        def memory_info() -> Any:
            if size is None:
                raise psutil.NoSuchProcess(7)
            return SimpleNamespace(rss=size)

        found = [process(child) for child in children]
        return SimpleNamespace(memory_info=memory_info, children=lambda recursive: found)

    for sizes, total in (((5, 1, None, 3), 9), ((None, 1), 0)):
        monkeypatch.setattr(psutil, "Process", lambda pid, sizes=sizes: process(*sizes))
        assert resident_bytes(7) == total


def test_redis_is_back_when_no_kind_of_work_has_more_keys(empty_redis: RedisServer) -> None:
    client = connect(empty_redis.url)
    client.set("task:1", "")
    before = holdings(empty_redis.url)
    assert before.keys == {"task": 1}
    assert before.used > 0
    for key in ("task:2", "lease", "celery-task-meta-x", "tombstone:default:1", "deleted:default:1"):
        client.set(key, "")
    client.delete("task:1")
    after = holdings(empty_redis.url)
    assert after.beyond(before) == {"lease": 1, "celery-task-meta": 1}
    assert before.beyond(after) == {}
    client.close()


def test_holdings_compare_by_kind() -> None:
    assert Holdings(0, {"a": 3, "b": 1}).beyond(Holdings(0, {"a": 1, "c": 5})) == {"a": 2, "b": 1}
