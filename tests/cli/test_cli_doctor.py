"""`embedfleet doctor`: every line says what is well, or what is wrong and the fix."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from commands import command, events, program
from stub_api import Stub
from tests.loopback_server import LoopbackServer, QuietHandler

from embedfleet.cli import checks
from embedfleet.cli.checks import Place, examine
from embedfleet.local.datadir import DataDir, FleetState
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.ledger.redis_client import connect


def place(folder: Path, redis: str = "redis://127.0.0.1:1/0", url: str = "http://127.0.0.1:1") -> Place:
    return Place(DataDir(folder), FleetState(os.getpid(), url, redis, "http://127.0.0.1:1"), url)


@contextmanager
def answering(answers: dict[str, Any]) -> Iterator[str]:
    """Serve JSON by path; yield host:port."""

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            body = json.dumps(answers[self.path]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with LoopbackServer(Handler) as server:
        yield server.address


def test_nothing_running_names_every_fix_and_never_a_credential(tmp_path: Path) -> None:
    env = {
        "FLEET_DATA_DIR": str(tmp_path),
        "CELERY_BROKER_URL": "redis://user:hush@127.0.0.1:1/0",
        "QDRANT_URL": "http://user:hush@127.0.0.1:1",
        "QDRANT_API_KEY": "hush",
        "FLEET_MODEL_CACHE": str(tmp_path / "none"),
    }
    result = program("doctor", "--url", "http://127.0.0.1:1", **env)
    assert result.returncode == 1
    found = {line["check"]: line for line in events(result.stdout)}
    assert found["python"]["ok"]
    for name in ("api", "broker", "qdrant", "model"):
        assert not found[name]["ok"]
        assert found[name]["fix"]
    assert "127.0.0.1:1" in found["broker"]["detail"]
    assert "hush" not in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_the_fleet_that_runs_here_is_examined(
    stub: Stub, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CELERY_BROKER_URL", "QDRANT_URL", "FLEET_BLOB_URL"):
        monkeypatch.delenv(name, raising=False)
    data = DataDir(Path(os.environ["FLEET_DATA_DIR"]))
    lock = data.claim()
    data.publish(FleetState(os.getpid(), stub.url, redis_server.url, stub.url))
    found = {line["check"]: line for line in events(command("doctor").stdout)}
    os.close(lock)
    assert found["api"] == {"check": "api", "ok": True, "detail": f"ready at {stub.url}", "fix": ""}
    for name in ("broker", "broker policy", "broker durability", "disk", "blobs"):
        assert found[name]["ok"], found[name]
    assert not found["qdrant"]["ok"]  # the stub is no Qdrant


def test_a_fleet_in_another_folder_is_examined_by_its_name(
    tmp_path: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CELERY_BROKER_URL", "QDRANT_URL", "FLEET_BLOB_URL"):
        monkeypatch.delenv(name, raising=False)
    data = DataDir(tmp_path / "elsewhere")
    lock = data.claim()
    data.publish(FleetState(os.getpid(), stub.url, "redis://127.0.0.1:1/0", stub.url))
    found = {line["check"]: line for line in events(command("doctor", "--data-dir", str(data.path)).stdout)}
    os.close(lock)
    assert found["api"]["detail"] == f"ready at {stub.url}"
    assert found["broker"]["detail"].startswith("no answer from 127.0.0.1:1/0")
    assert found["blobs"]["detail"] == f"{data.blobs} can be written"


def test_blobs_elsewhere_of_a_fleet_that_runs_here_are_examined(
    tmp_path: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CELERY_BROKER_URL", "QDRANT_URL", "FLEET_BLOB_URL"):
        monkeypatch.delenv(name, raising=False)
    data = DataDir(Path(os.environ["FLEET_DATA_DIR"]))
    lock = data.claim()
    elsewhere = str(tmp_path / "elsewhere")
    data.publish(FleetState(os.getpid(), stub.url, "redis://127.0.0.1:1/0", stub.url, blobs=elsewhere))
    found = {line["check"]: line for line in events(command("doctor").stdout)}
    os.close(lock)
    assert found["blobs"]["detail"] == f"{elsewhere} can be written"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("FLEET_DEVICE", "cpu", "computes by "),
        ("FLEET_DEVICE", "cuda", "FLEET_DEVICE=cuda, but "),
        ("FLEET_PRECISION", "fp16", "has no fp16 on cpu"),
        ("FLEET_DEVICE", "gpu", "FLEET_DEVICE"),
    ],
)
def test_what_a_worker_would_refuse_is_said_before_one_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv("FLEET_DEVICE", "cpu")
    monkeypatch.setenv(name, value)
    found = {one.name: one for one in examine(place(tmp_path))}["encoder"]
    assert said in found.detail
    assert found.ok == (value == "cpu")


def test_a_redis_that_would_lose_tasks_is_a_problem(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        client = connect(server.url)
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("appendonly", "no")
        client.replicaof("127.0.0.1", 1)
        client.close()
        found = {one.name: one for one in checks.broker(place(tmp_path, server.url))}
    assert "noeviction" in found["broker policy"].fix
    assert "appendonly yes" in found["broker durability"].fix
    assert "primary" in found["broker role"].fix


def test_a_wrong_password_is_said(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        client = connect(server.url)
        client.config_set("requirepass", "right")
        client.close()
        wrong = server.url.replace("redis://", "redis://:wrong@")
        (found,) = checks.broker(place(tmp_path, wrong))
    assert (found.ok, found.fix) == (False, "correct CELERY_BROKER_URL")
    assert "wrong" not in found.detail


def test_a_folder_that_can_not_be_written_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_BLOB_URL", "/proc/blobs")
    (found,) = checks.blobs(place(tmp_path))
    assert not found.ok
    assert "/proc/blobs can't be written" in found.detail


def test_a_bucket_is_written_to_and_one_that_is_missing_is_a_problem(
    tmp_path: Path, bucket_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_BLOB_URL", bucket_url)
    (found,) = checks.blobs(place(tmp_path))
    assert found.ok
    assert found.detail == f"{bucket_url} can be written"
    monkeypatch.setenv("FLEET_BLOB_URL", "s3://no-such-bucket/x")
    found = next(one for one in checks.examine(place(tmp_path)) if one.name == "blobs")
    assert not found.ok
    assert "there is no such bucket; create it" in found.detail


@pytest.mark.parametrize(
    ("about", "shown"),
    [
        ({"title": "qdrant - vector search engine", "version": "1.17.0"}, "Qdrant 1.17.0"),
        (
            {"title": "a stand-in; not a Qdrant server", "version": "1.17.0"},
            "a stand-in; not a Qdrant server",
        ),
    ],
)
def test_a_stand_in_is_not_called_qdrant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, about: dict[str, str], shown: str
) -> None:
    with answering({"/": about, "/collections": {"result": {"collections": []}}}) as address:
        # Without http://, as the fleet reads it, too.
        monkeypatch.setenv("QDRANT_URL", f"user:hush@{address}/")
        (found,) = checks.qdrant(place(tmp_path))
    assert (found.detail, found.fix) == (f"{shown}, at {address}", "")


def test_little_room_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLEET_BLOB_URL", raising=False)
    monkeypatch.setattr(checks, "LEAST_FREE_BYTES", 1 << 62)
    (found,) = checks.disk(place(tmp_path))
    assert found.fix.startswith("make room")


def test_the_disks_are_those_that_are_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = place(tmp_path / "data")
    nowhere = Place(here.data, None, here.url)

    def looked_at(place: Place) -> list[str]:
        return [one.detail.partition(" for ")[2] for one in checks.disk(place)]

    monkeypatch.delenv("FLEET_BLOB_URL", raising=False)
    assert looked_at(here) == looked_at(nowhere) == [str(here.data.path)]
    monkeypatch.setenv("FLEET_BLOB_URL", "/proc/blobs")  # another disk
    assert looked_at(here) == [str(here.data.path), "/proc/blobs"]
    assert looked_at(nowhere) == ["/proc/blobs"], "as in a pod of the API"
    monkeypatch.setenv("FLEET_BLOB_URL", "s3://bucket/blobs")
    assert looked_at(here) == [str(here.data.path)]
    assert looked_at(nowhere) == []
    here.data.path.mkdir()
    assert looked_at(nowhere) == [str(here.data.path)], "a fleet was here, whatever this shell says of blobs"


def test_a_disk_of_blobs_needs_what_uploads_must_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "LEAST_FREE_BYTES", 0)
    monkeypatch.setenv("FLEET_BLOB_URL", "/proc/blobs")  # another disk
    monkeypatch.setenv("FLEET_MIN_FREE_DISK", str(1 << 62))
    data, blobs = checks.disk(place(tmp_path))
    assert data.ok
    assert blobs.fix == "make room: uploads need it"


def test_a_check_that_breaks_is_a_finding_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk(place: Place) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(checks, "disk", disk)
    found = {one.name: one for one in examine(place(tmp_path))}
    assert found["disk"].detail == "the check broke: ZeroDivisionError"
    assert found["blobs"].ok


def test_the_client_commands_load_no_worker_and_no_encoder_runtime() -> None:
    code = (
        "import sys; import embedfleet.cli.main; "
        "print(*{'celery', 'onnxruntime', 'fastapi', 'pypdf', 'qdrant_client', 'numpy'} & set(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


def test_two_wheels_of_onnxruntime_are_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels = ["onnxruntime", "onnxruntime-gpu"]
    monkeypatch.setattr(checks, "runtime_wheels", lambda: wheels)
    monkeypatch.setattr(checks, "wheels_problem", lambda: "uninstall both" if len(wheels) > 1 else "")
    monkeypatch.setattr(checks.metadata, "version", lambda name: "1.30.0")
    (found,) = checks.runtime(place(tmp_path))
    assert (found.detail, found.fix) == ("onnxruntime 1.30.0, onnxruntime-gpu 1.30.0", "uninstall both")
    wheels.pop()
    (found,) = checks.runtime(place(tmp_path))
    assert found.ok
    wheels.pop()
    assert [*checks.runtime(place(tmp_path)), *checks.encoder(place(tmp_path))] == []
