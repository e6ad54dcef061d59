"""What a real worker's probes say of its parts."""

import signal
from pathlib import Path

import httpx
import pytest

from embedfleet.local.ports import free_ports
from embedfleet.local.redis import RedisServer
from tests.api.serving import fetch
from tests.e2e.fleet import until
from tests.e2e.workers import environment, worker

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("batches")]

# At SIGUSR2 the lane's thread meets an error outside of what it survives.
END_THE_LANE = """
import signal
from celery import signals
from embedfleet.embeddings import tasks

def end(*_):
    lane = tasks._engine.lane
    lane._queue._window = None
    lane.submit("a document", [[1]])

signals.worker_ready.connect(lambda **_: signal.signal(signal.SIGUSR2, end), weak=False)
"""


def livez(probe_port: int) -> httpx.Response | None:
    try:
        return fetch(f"http://127.0.0.1:{probe_port}/livez", timeout=2)
    except httpx.HTTPError:
        return None


def test_a_worker_whose_lane_has_died_says_so_in_livez(empty_redis: RedisServer, tmp_path: Path) -> None:
    (probe_port,) = free_ports(1)
    log = tmp_path / "log"
    env = environment(empty_redis.url, "http://127.0.0.1:1", tmp_path / "blobs", probe_port)
    with worker("embeddings", env, log, concurrency=2, prelude=END_THE_LANE) as process:
        until(lambda: log.exists() and " ready." in log.read_text("utf-8"), "the worker consumes")
        before = livez(probe_port)
        assert before
        assert (before.status_code, before.json()) == (200, {"status": "ok", "problems": []})
        process.send_signal(signal.SIGUSR2)

        def says_so() -> bool:
            answer = livez(probe_port)
            return answer is not None and answer.status_code == 503

        until(says_so, "the probe fails")
        after = livez(probe_port)
        assert after
        assert after.json()["problems"] == ["the lane has died: nothing is encoded any more"]
