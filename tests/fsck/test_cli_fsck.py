"""The command: exit codes, both forms of output, what it says when it can't run."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from embedfleet.contracts.jobs import ProcessDocument
from embedfleet.local.datadir import DataDir, FleetState
from embedfleet.local.ports import LOOPBACK, free_ports
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.ledger.audit import Summary
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


@contextmanager
def fleet_in(folder: Path, redis: str, qdrant: str) -> Iterator[None]:
    """A fleet that runs in a folder, as far as the commands can tell."""
    data = DataDir(folder)
    lock = data.claim()
    data.publish(FleetState(os.getpid(), "http://127.0.0.1:1", redis, qdrant))
    try:
        yield
    finally:
        os.close(lock)


PLACES = ("CELERY_BROKER_URL", "QDRANT_URL", "FLEET_BLOB_URL")


@pytest.mark.parametrize("given", [PLACES[:1], PLACES[1:2], PLACES[::2], PLACES[1:]], ids=" ".join)
def test_the_places_of_two_fleets_are_never_mixed(
    house: House, fsck: Command, tmp_path: Path, given: tuple[str, ...]
) -> None:
    """What the shell of another fleet's operator has forgotten to set isn't filled in."""
    house.put_points(document(), range(3))
    folder = tmp_path / "fleet"
    others = {name: "" for name in PLACES if name not in given}
    with fleet_in(folder, "redis://127.0.0.1:1/0", "http://127.0.0.1:1"):
        done = fsck("--repair", **others, FLEET_DATA_DIR=str(folder))
    assert (done.returncode, done.stdout) == (2, "")
    unset, is_set = done.stderr.split(" set, but ")
    assert [name for name in PLACES if name in unset] == list(others)
    assert [name for name in PLACES if name in is_set.split(":")[0]] == list(given)
    assert house.store.count(COLLECTION) == 3


def test_the_fleet_in_the_folder_is_checked_when_nothing_is_set(
    house: House, fsck: Command, tmp_path: Path
) -> None:
    house.settled(document())
    folder, none = Path(house.blobs.address).parent, dict.fromkeys(PLACES, "")
    redis, qdrant = fsck.env["CELERY_BROKER_URL"], fsck.env["QDRANT_URL"]
    with fleet_in(folder, redis, qdrant):
        done = fsck(**none, FLEET_DATA_DIR=str(folder))
        given = {"CELERY_BROKER_URL": redis, "FLEET_BLOB_URL": f"file://{house.blobs.address}/"}
        same = fsck(**none | given, FLEET_DATA_DIR=str(folder))
    for each in (done, same):  # the shell that started a fleet may hold the address of its Redis
        assert (each.returncode, each.stderr) == (0, "")
        assert lines(each)[-1]["documents"] == 1


def test_a_fleet_that_does_not_run_is_refused(house: House, fsck: Command, tmp_path: Path) -> None:
    done = fsck("--repair", **dict.fromkeys(PLACES, ""), FLEET_DATA_DIR=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        f"the fleet of {tmp_path} doesn't run: start it, or set CELERY_BROKER_URL, QDRANT_URL" in done.stderr
    )


def test_the_summary_says_where_it_looked_without_credentials(house: House, fsck: Command) -> None:
    redis, qdrant = fsck.env["CELERY_BROKER_URL"], fsck.env["QDRANT_URL"]
    done = fsck(QDRANT_URL=qdrant.replace("//", "//user:hush@"))
    summary = lines(done)[-1]
    assert (summary["ledger"], summary["blobs"], summary["qdrant"]) == (
        redis.removeprefix("redis://"),
        house.blobs.address,
        qdrant,
    )
    assert "hush" not in done.stdout + done.stderr


def strangers(house: House, count: int) -> None:
    """Documents of another fleet, as the Qdrant of another fleet holds them."""
    for number in range(count):
        house.put_points(document(f"theirs-{number}"), range(2))


def test_the_qdrant_of_another_fleet_is_left_alone(house: House, fsck: Command) -> None:
    """All three are set, and one of them is another fleet's: its points are reported, and stay."""
    broken(house)
    strangers(house, 2)
    done = fsck("--repair")
    *found, summary = lines(done)
    assert done.returncode == 1, done.stderr
    assert house.store.count(COLLECTION) == 4
    assert {one["kind"] for one in found} == {"orphan_points", "points_missing"}
    assert (summary["summary"], summary["repaired"]) == ({"orphan_points": 2, "points_missing": 1}, {})
    assert "holds 2 documents that this ledger doesn't know" in str(summary["not_repaired"])
    assert "--repair --orphans" in str(summary["not_repaired"])
    assert house.row(document()).generation == 1, "nor is it all processed again"


@pytest.mark.parametrize("scope", [(), ("--tenant", "default"), ("--collection", "notes")])
def test_what_is_unknown_is_removed_when_it_is_wished(
    house: House, fsck: Command, scope: tuple[str, ...]
) -> None:
    strangers(house, 1)
    assert fsck("--repair", *scope).returncode == 1
    assert fsck("--orphans", *scope).returncode == 2
    assert house.store.count(COLLECTION) == 2
    done = fsck("--repair", "--orphans", *scope)
    assert (done.returncode, lines(done)[-1]["repaired"]) == (0, {"orphan_points": 1})
    assert house.store.count(COLLECTION) == 0


def test_a_fleet_with_some_leftovers_is_repaired(house: House, fsck: Command) -> None:
    house.settled(document())
    strangers(house, 1)
    done = fsck("--repair")
    assert (done.returncode, lines(done)[-1]["repaired"]) == (0, {"orphan_points": 1})
    assert house.store.count(COLLECTION) == 3


def test_after_a_change_of_model_all_is_of_the_wrong_one(house: House, fsck: Command) -> None:
    """The fleet's own check, which knew another model, may be an hour old."""
    house.settled(document())
    house.ledger._redis.hset(f"document:default:{document().id}", "updated_at", 1)
    house.ledger.note_served("model", 2, starts=True)
    house.ledger.note_summary(Summary(house.ledger.now(), {}))
    done = fsck()
    assert (done.returncode, lines(done)[-1]["model"]) == (0, "model")
    house.ledger.note_served("newer", 2, starts=True)
    done = fsck()
    found, summary = lines(done)
    assert (done.returncode, found["kind"], summary["model"]) == (1, "wrong_model", "newer")
    assert fsck("--repair").returncode == 0
    assert house.row(document()).model_key == "newer"
