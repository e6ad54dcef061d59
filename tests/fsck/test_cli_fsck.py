"""The command: exit codes, both forms of output, what it says when it can't run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from embedfleet.contracts.jobs import ProcessDocument
from embedfleet.local.ports import LOOPBACK, free_ports
from embedfleet.local.redis import RedisServer
from tests.fsck.house import COLLECTION, House, document


class Command:
    """`embedfleet fsck` for a house."""

    def __init__(self, house: House, redis: str, qdrant: str, folder: Path) -> None:
        self.env = {
            "PATH": str(Path(sys.executable).parent),
            "HOME": str(folder),
            "PYTHONPATH": ":".join(sys.path),
            "CELERY_BROKER_URL": redis,
            "QDRANT_URL": qdrant,
            "FLEET_BLOB_URL": house.blobs.address,
            "FLEET_DATA_DIR": str(folder / "none"),
            "FLEET_LEASE_SECONDS": "0.4",
        }

    def __call__(self, *arguments: str, **env: str) -> "subprocess.CompletedProcess[str]":
        line = [sys.executable, "-m", "embedfleet.cli", "fsck", *arguments]
        return subprocess.run(
            line, env=self.env | env, capture_output=True, text=True, timeout=60, check=False
        )


@pytest.fixture
def fsck(house: House, empty_redis: RedisServer, qdrant_url: str, tmp_path: Path) -> Command:
    return Command(house, empty_redis.url, qdrant_url, tmp_path)


def broken(house: House, name: str = "one") -> None:
    """A document that was whole long ago, without its points."""
    one = house.settled(document(name))
    house.store.delete_generations(COLLECTION, one.id)
    house.ledger._redis.hset(f"document:default:{one.id}", "updated_at", 1)


def lines(done: "subprocess.CompletedProcess[str]") -> list[dict[str, object]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_clean_fleet(house: House, fsck: Command) -> None:
    house.settled(document())
    done = fsck()
    assert (done.returncode, done.stderr) == (0, "")
    (summary,) = lines(done)
    assert summary["summary"] == {}
    assert summary["documents"] == 1


def test_findings_are_lines_and_exit_code_1(house: House, fsck: Command) -> None:
    for name in "abc":
        broken(house, name)
    done = fsck("--examples", "2")
    assert done.returncode == 1
    *found, summary = lines(done)
    assert [one["kind"] for one in found] == ["points_missing"] * 2
    assert {one["detail"].split(" of a")[0].split(" of b")[0].split(" of c")[0] for one in found} == {
        "0 of 3 points"
    }
    assert summary["summary"] == {"points_missing": 3}


def test_a_repair_says_what_it_did_and_the_workers_hear_of_it(house: House, fsck: Command) -> None:
    broken(house)
    done = fsck("--repair")
    assert done.returncode == 0, done.stderr
    repaired, summary = lines(done)
    assert repaired["repair"] == "processed again as its next generation"
    assert (summary["repaired"], summary["in_work_again"]) == ({"points_missing": 1}, 1)
    assert house.ledger._redis.llen("documents") == 1
    house.published.append(ProcessDocument(task_id=house.row(document()).task_id))
    house.embed(document())
    house.janitor.settle(house.row(document()))
    assert house.store.count(COLLECTION, document().id) == 3


def test_what_cant_be_repaired_is_left_with_the_reason(house: House, fsck: Command) -> None:
    broken(house)
    house.blobs.delete(document().blob)
    done = fsck("--repair")
    assert done.returncode == 1
    *left, summary = lines(done)
    assert all("upload it again" in one["repair"] for one in left)
    assert summary["summary"] == {"points_missing": 1, "upload_missing": 1}


@pytest.mark.parametrize(("name", "part"), [("QDRANT_URL", "Qdrant"), ("CELERY_BROKER_URL", "Redis")])
def test_what_is_down_is_named_and_exit_code_2(house: House, fsck: Command, name: str, part: str) -> None:
    house.settled(document())
    (port,) = free_ports(1)
    scheme = "http" if name == "QDRANT_URL" else "redis"
    done = fsck(**{name: f"{scheme}://{LOOPBACK}:{port}"})
    assert done.returncode == 2
    assert f"can't check: {part} at" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_redis_without_records_is_not_taken_for_the_truth(house: House, fsck: Command) -> None:
    house.settled(document())
    house.ledger._redis.flushall()
    done = fsck("--repair")
    assert done.returncode == 2
    assert "started anew" in done.stderr
    assert house.store.count(COLLECTION) == 3
