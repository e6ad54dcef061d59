"""What a real worker does when its lane encodes nothing any more."""

import signal
from pathlib import Path
from typing import Any

import pytest

from embedfleet.local.ports import free_ports
from embedfleet.local.redis import RedisServer
from tests.api.serving import fetch
from tests.e2e.fleet import until
from tests.e2e.workers import environment, worker

WAIT_SECONDS = 30

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("batches")]

# At SIGUSR2 the lane's thread meets an error outside of what it survives.
DIES = "lane._queue._window = None"
# Or it never comes back from the encoder.
HANGS = "tasks.HUNG_SECONDS, lane.encoder.encode = 1.0, lambda *_: threading.Event().wait()"
# Or that fails for whatever it is given.
FAILS = "lane.encoder.encode = lambda *_: 1 / 0"
PRELUDE = """
import signal, threading
from celery import signals
from embedfleet.embeddings import tasks

def end(*_):
    lane = tasks._engine.lane
    {}
    lane.submit("a document", [[1]])

signals.worker_ready.connect(lambda **_: signal.signal(signal.SIGUSR2, end), weak=False)
"""


def livez(probe_port: int) -> tuple[int, dict[str, Any]]:
    answer = fetch(f"http://127.0.0.1:{probe_port}/livez", timeout=2)
    return answer.status_code, answer.json()


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (DIES, "the lane has died: nothing is encoded any more"),
        (HANGS, "the lane hangs: the device has not answered for"),
        (FAILS, "the device serves no row: division by zero"),
    ],
    ids=["dies", "hangs", "fails"],
)
def test_a_worker_whose_lane_encodes_nothing_any_more_ends_to_start_afresh(
    what: str, said: str, empty_redis: RedisServer, tmp_path: Path
) -> None:
    (probe_port,) = free_ports(1)
    log = tmp_path / "log"
    env = environment(empty_redis.url, "http://127.0.0.1:1", tmp_path / "blobs", probe_port)
    with worker("embeddings", env, log, concurrency=2, prelude=PRELUDE.format(what)) as process:
        until(lambda: log.exists() and " ready." in log.read_text("utf-8"), "the worker consumes")
        assert livez(probe_port) == (200, {"status": "ok", "problems": []})
        process.send_signal(signal.SIGUSR2)
        assert process.wait(timeout=WAIT_SECONDS) == 0
    (line,) = (line for line in log.read_text("utf-8").splitlines() if "to start afresh" in line)
    assert said in line
