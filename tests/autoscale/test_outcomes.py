"""The check can fail: pods that need SIGKILL, losses, duplicates, a pool that isn't at zero."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from benchmarks.bench.publish import RESULTS, shown

from embedfleet.local.child import Child
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.settings import EngineSettings, load
from tests.autoscale import report
from tests.autoscale.__main__ import main
from tests.autoscale.arms import ARMS, CHART, POOLS, command, deployment, grace_of
from tests.autoscale.keda import ByQueue
from tests.autoscale.load import CHARACTERS, TAIL, TAIL_CHARACTERS, VIETNAMESE, Burst, documents
from tests.autoscale.pods import Pool
from tests.autoscale.run import Outcome, flaps, holders
from tests.deploy.formula import evaluate

SECONDS = 20.0
# The line tells that it listens to signals: one that comes before would end it.
ENDS = "import signal, threading; signal.signal(signal.SIGTERM, lambda *_: done.set());"
ENDS += "done = threading.Event(); print('up', flush=True); done.wait()"
STAYS = "import signal, threading; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True);"
STAYS += "threading.Event().wait()"
BREAKS = "print('up', flush=True)"


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Callable[[str, float], Pool]]:
    """Makes pools whose pods are a line of Python; ends them all."""
    made: list[Pool] = []

    def of(program: str, grace: float) -> Pool:
        def make(name: str) -> tuple[Child, str]:
            log = tmp_path / f"{name}.log"
            return Child(name, [sys.executable, "-c", program], log=log, stop_seconds=0.1), ""

        made.append(Pool("documents", make, grace, dict))
        return made[-1]

    yield of
    for one in made:
        one.stop()


def tended(pool: Pool, found: Callable[[], object]) -> None:
    """Tend a pool until something is so."""
    deadline = time.monotonic() + SECONDS
    while not found():
        pool.tend(time.monotonic())
        assert time.monotonic() < deadline, pool


def up(pool: Pool) -> bool:
    return all("up" in pod.child.tail() for pod in pool.active)


def test_a_scaled_in_pod_ends_by_sigterm(pool: Callable[[str, float], Pool]) -> None:
    pods = pool(ENDS, SECONDS)
    pods.scale(2, time.monotonic())
    tended(pods, lambda: up(pods))
    pods.scale(0, time.monotonic())
    tended(pods, lambda: not pods.alive)
    assert (pods.killed, pods.broke_off) == ([], [])
    assert [count for _, count in pods.steps] == [2, 0]
    assert pods.worker_seconds(time.monotonic()) > 0


def test_a_pod_that_ignores_sigterm_is_killed_after_its_grace_and_told_of(
    pool: Callable[[str, float], Pool],
) -> None:
    pods = pool(STAYS, 0.2)
    pods.scale(1, time.monotonic())
    tended(pods, lambda: up(pods))
    pods.scale(0, time.monotonic())
    tended(pods, lambda: not pods.alive)
    assert pods.killed == ["documents-0 needed SIGKILL 0.2 s after SIGTERM"]
    assert pods.slowest_end() > 0.2


def test_a_pod_that_ends_untold_is_replaced_and_told_of(pool: Callable[[str, float], Pool]) -> None:
    pods = pool(BREAKS, SECONDS)
    pods.scale(1, time.monotonic())
    tended(pods, lambda: pods.broke_off)
    assert "documents-0 ended with exit code 0 untold" in pods.broke_off[0]
    assert [pod.name for pod in pods.active] == ["documents-1"]


def test_the_pod_that_became_ready_last_is_taken_first(pool: Callable[[str, float], Pool]) -> None:
    pods = pool(ENDS, SECONDS)
    pods.scale(3, time.monotonic())
    for pod, ready in zip(pods.pods, (2.0, 3.0, 0.0), strict=True):
        pod.ready = ready
    for left in (2, 1):
        pods.scale(left, time.monotonic())
    assert [bool(pod.told) for pod in pods.pods] == [False, True, True], "and one that isn't ready before"


@pytest.mark.parametrize(
    ("replicas", "count"),
    [([1, 3, 2, 1, 0], 0), ([1, 0, 1, 0], 1), ([2, 1, 2, 1, 3, 0], 2), ([], 0)],
)
def test_a_flap_is_a_scale_out_after_a_scale_in(replicas: list[int], count: int) -> None:
    assert flaps(replicas) == count


def whole(arm: str) -> Outcome:
    return Outcome(
        arm,
        arm,
        documents=3,
        drain_s=10.0,
        seconds=30.0,
        worker_seconds=50.0,
        least=2 * (arm == "cpu_hpa"),
        peaks=dict.fromkeys(POOLS, 2),
        cut=dict.fromkeys(POOLS, 0),
        scaled_in=4,
        busy={"documents": 0, "embeddings": 1},
        slowest_end_s=1.0,
        bursts=[Burst(0.0, 1.0, 9.0)],
        steps={pool: [(0.5, 1), (1.0, 2), (20.0, 0)] for pool in POOLS},
        samples={pool: [(0.0, 0, 0), (1.0, 3, 1)] for pool in POOLS},
    )


ALL = [whole(arm.name) for arm in ARMS]


def test_nothing_is_wrong_with_what_is_whole() -> None:
    assert report.problems(ALL, 3) == []
    assert report.last_line(ALL, []) == (
        "autoscale ok: documents=3 lost=0 duplicates=0 peak_documents=2 peak_embeddings=2 "
        "drain_s=10.0 llen_only_drain_s=10.0 worker_seconds=50 runs_cut=0 llen_only_runs_cut=0"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lost": ["a.txt: still EMBEDDING"]}, "lost: a.txt"),
        ({"duplicates": ["2 points of it"]}, "duplicate: 2 points"),
        ({"documents": 2}, "2 of 3 documents are READY"),
        ({"problems": ["documents-1 needed SIGKILL 60 s after SIGTERM"]}, "needed SIGKILL"),
        (
            {"steps": {"documents": [(0.5, 1), (9.0, 0)], "embeddings": [(0.5, 1)]}},
            "embeddings ended with 1 pods",
        ),
        ({"steps": {"documents": [(0.5, 1), (9.0, 0)]}}, "embeddings never left zero"),
        ({"scaled_in": 0}, "no pod was told to end"),
        ({"busy": dict.fromkeys(POOLS, 0)}, "no pod that held tasks was told to end"),
    ],
)
def test_whatever_does_not_hold_is_told(change: dict[str, object], words: str) -> None:
    wrong = report.problems([replace(ALL[0], **change), *ALL[1:]], 3)
    assert [words in line for line in wrong] == [True]
    assert report.last_line(ALL, wrong).startswith("autoscale FAILED: ")


def test_work_that_is_cut_is_counted_for_the_chart_and_for_lists_alone() -> None:
    ours, queued = ({"documents": 1, "embeddings": 2}, {"documents": 0, "embeddings": 9})
    outcomes = [replace(ALL[0], cut=ours), replace(ALL[1], cut=queued), ALL[2]]
    assert report.problems(outcomes, 3) == []
    assert report.last_line(outcomes, []).endswith(" runs_cut=3 llen_only_runs_cut=9")
    record = report.receipt(outcomes, 20, "line", [])
    assert [row[6:8] for row in report.rows(record)] == [
        ("0 + 1", "1 + 2"),
        ("0 + 1", "0 + 9"),
        ("0 + 1", "0 + 0"),
    ]


def test_a_loss_of_the_other_rules_fails_the_check_too() -> None:
    others = [ALL[0], replace(ALL[1], lost=["b.txt"]), ALL[2]]
    assert report.problems(others, 3) == ["llen_only: lost: b.txt"]
    assert "lost=1" in report.last_line(others, ["something"])


def test_pods_that_stay_cost_until_the_longest_arm_ends(tmp_path: Path) -> None:
    arms = [replace(ALL[0], seconds=40.0), *ALL[1:]]
    record = report.receipt(arms, 20, "line", [])
    assert [row[2] for row in report.rows(record)] == ["50", "50", "70"]
    report.write(record, tmp_path)
    assert json.loads((tmp_path / "receipt.json").read_text("utf-8")) == json.loads(json.dumps(record))
    assert (tmp_path / "receipt.svg").read_text("utf-8").count("<polyline") == len(ARMS) * len(POOLS)


def test_the_docs_show_the_record() -> None:
    block, record = shown(report.DOCS.read_text("utf-8"), report.BEGIN), report.recorded()
    assert record is not None
    assert block == report.block(record)
    assert (RESULTS / "autoscale.svg").read_text("utf-8") == report.picture(record)


def test_documents_are_always_the_same_and_some_are_vietnamese() -> None:
    files = documents(12, tail=1)
    assert files == documents(12, tail=1)
    vietnamese = [file for file in files if any(word in file.data.decode() for word in VIETNAMESE)]
    assert 0 < len(vietnamese) < 12
    sizes = [len(file.data.decode()) for file in files]
    assert all(file.chunks for file in files)
    assert max(sizes[:-1]) < 2 * CHARACTERS[1] < TAIL_CHARACTERS[0] <= sizes[-1]


def test_a_long_document_is_one_task_and_all_of_them_are_work_for_one_pod() -> None:
    (longest,) = documents(1, tail=1)
    assert len(longest.chunks) <= load(EngineSettings).chunks_per_task
    scaler = CHART.scalers(1)["embeddings"]
    assert isinstance(scaler, ByQueue)
    assert evaluate(scaler.rules.formula, {"queued": 0.0, "inflight": float(TAIL)}) <= scaler.rules.target


def test_what_is_published_was_measured_with_all_documents(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--publish", "--documents", "20"])
    assert "leave --documents out" in capsys.readouterr().err


def test_a_pod_that_is_told_to_end_is_asked_for_what_it_holds(pool: Callable[[str, float], Pool]) -> None:
    pods = pool(ENDS, SECONDS)
    pods.scale(2, time.monotonic())
    tended(pods, lambda: up(pods))
    first, second = (pod.child.pid for pod in pods.pods)
    pods.pods[1].ready = pods.pods[0].ready + 1
    pods.holders = lambda: {first: 3, second: 2}
    pods.scale(1, time.monotonic())
    assert [pod.held for pod in pods.pods] == [0, 2], "the latest one alone was told"


def test_the_holders_of_tasks_are_those_of_the_leases(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        client: Any = redis.Redis.from_url(server.url, decode_responses=True)
        for number, owner in enumerate(("host:41:a", "host:7:b", "host:41:c", "host:9:d")):
            client.hset(f"task:{number}", "owner", owner)
            client.zadd("leases:documents" if owner.endswith("d") else "leases:embeddings", {str(number): 1})
        assert holders(client, "embeddings") == {41: 2, 7: 1}
        assert holders(client, "documents-large") == {}
        client.close()


def test_a_pod_runs_what_the_chart_says_under_its_own_name() -> None:
    made = deployment("embeddings")
    run = command(made, "embeddings-7")
    assert run[0] == sys.executable
    assert {"--queues=embeddings", "--concurrency=64", "--hostname=embeddings@embeddings-7"} <= set(run)
    assert grace_of(made) == 60
