"""What the fleet is made of: own or the user's stores, commands, variables, readiness."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.loopback_server import LoopbackServer, QuietHandler

from embedfleet.contracts.errors import ConfigurationError, DependencyDown
from embedfleet.contracts.jobs import Queue
from embedfleet.local import members, model
from embedfleet.local.datadir import DataDir


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataDir:
    """A data folder, and an environment that names no store and has no server on PATH."""
    for name in ("CELERY_BROKER_URL", "QDRANT_URL", "FLEET_BLOB_URL", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return DataDir(tmp_path / "data")


def put_on_path(tmp_path: Path, name: str) -> Path:
    program = tmp_path / "bin" / name
    program.parent.mkdir(exist_ok=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return program


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    class Handler(QuietHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with LoopbackServer(Handler) as server:
        yield f"{server.url}/readyz"


def test_stores_of_the_user_are_used_and_shown_without_credentials(
    data: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://me:hush@10.0.0.1:6379/3")
    monkeypatch.setenv("QDRANT_URL", "https://me:hush@10.0.0.2:6333")
    redis, qdrant = members.redis_store(data, 0), members.qdrant_store(data, 0)
    assert (redis.member, qdrant.member) == (None, None)
    assert redis.url == "redis://me:hush@10.0.0.1:6379/3"
    assert (redis.shown, qdrant.shown) == ("10.0.0.1:6379/3", "10.0.0.2:6333")
    assert "CELERY_BROKER_URL" in redis.origin
    assert "QDRANT_URL" in qdrant.origin
    env = members.children_env(redis, qdrant, members.blob_store(data))
    assert env["CELERY_BROKER_URL"] == redis.url
    assert env["QDRANT_URL"] == qdrant.url


def test_blobs_are_in_the_data_unless_the_user_names_another_place(
    data: DataDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = members.blob_store(data)
    assert (own.url, own.origin) == (str(data.path / "blobs"), "a folder of its own")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLEET_BLOB_URL", "elsewhere/blobs")
    yours = members.blob_store(data)
    # Whole: who asks the running fleet may stand in another folder.
    assert yours.url == yours.shown == str(tmp_path / "elsewhere/blobs")
    assert yours.origin == "yours (FLEET_BLOB_URL)"
    assert members.children_env(own, own, yours)["FLEET_BLOB_URL"] == yours.url


def test_a_bucket_of_the_user_is_used(
    data: DataDir, bucket_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_BLOB_URL", bucket_url)
    assert members.blob_store(data).url == bucket_url
    monkeypatch.setenv("FLEET_BLOB_URL", "s3://no-such-bucket/x")
    with pytest.raises(DependencyDown, match="there is no such bucket"):
        members.blob_store(data)


def test_a_bucket_without_the_extra_is_refused(data: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_BLOB_URL", "s3://bucket/x")
    monkeypatch.delitem(sys.modules, "embedfleet.runtime.blobs.bucket", raising=False)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'embedfleet\[object-store\]'"):
        members.blob_store(data)


@pytest.mark.parametrize("folder", ["/proc/blobs", "{file}", "{file}/blobs"])
def test_a_folder_that_can_not_be_written_is_refused(
    data: DataDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FLEET_BLOB_URL", folder.format(file=tmp_path / "file"))
    with pytest.raises(ConfigurationError, match=r"^FLEET_BLOB_URL .* can't be written \(.*\): "):
        members.blob_store(data)


def test_without_a_server_qdrant_is_the_stand_in_and_says_so(data: DataDir) -> None:
    store = members.qdrant_store(data, 0)
    assert store.origin.startswith("embedded stand-in on qdrant-edge ")
    assert store.member


def test_a_server_on_path_comes_first_but_data_stays_with_what_wrote_it(
    data: DataDir, tmp_path: Path
) -> None:
    program = put_on_path(tmp_path, "qdrant")
    assert members.qdrant_store(data, 0).origin == f"Qdrant server from {program}"
    (data.path / "qdrant-edge").mkdir(parents=True)
    assert members.qdrant_store(data, 0).origin.startswith("embedded stand-in")


def test_data_of_a_server_that_is_gone_is_not_hidden(data: DataDir) -> None:
    (data.path / "qdrant").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="written by a Qdrant server"):
        members.qdrant_store(data, 0)


def test_calls_to_this_machine_pass_by_the_proxy(data: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    store = members.qdrant_store(data, 0)
    assert members.children_env(store, store, store)["NO_PROXY"] == "127.0.0.1,localhost"
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, f"{name}.example")
        env = members.children_env(store, store, store)
        assert env["NO_PROXY"] == env["no_proxy"] == f"{name}.example,127.0.0.1,localhost"


def test_each_worker_has_a_probe_of_its_own(data: DataDir) -> None:
    workers = [members.worker_member(data, 0, {}, queue, 2) for queue in Queue]
    assert len({worker.not_ready() for worker in workers}) == 2


def test_every_queue_of_the_api_has_workers(data: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_DOCUMENT_QUEUES", "documents-api=1000,documents-large=20000000")
    started = [member.child for member in members.worker_members(data, 0, {})]
    taken = [next(part for part in child._command if part.startswith("--queues=")) for child in started]
    assert sorted(taken) == [
        f"--queues={queue}" for queue in ("documents", "documents-api", "documents-large", "embeddings")
    ]
    (large,) = [child for child in started if "--queues=documents-large" in child._command]
    assert "embedfleet.documents.tasks" in large._command
    names = {child.name for child in started}
    assert len(names) == len({child.log for child in started}) == 4


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, b"{}", ""),
        (
            503,
            json.dumps({"problems": ["redis: away", "qdrant: away"]}).encode(),
            "redis: away; qdrant: away",
        ),
        (503, b'{"detail": "not yet"}', "not yet"),
        (503, b"[1]", "{url} answers 503"),
        (500, b"oops", "{url} answers 500"),
    ],
)
def test_a_probe_says_what_is_missing(status: int, body: bytes, reason: str) -> None:
    with answering(status, body) as url:
        assert members.answers(url)() == reason.replace("{url}", url)


def test_nobody_there_is_a_reason(data: DataDir) -> None:
    assert members.answers("http://127.0.0.1:1/readyz")() == "no answer from http://127.0.0.1:1/readyz yet"


def test_a_model_that_is_missing_is_fetched_but_a_wrong_folder_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_MODEL_CACHE", str(tmp_path))
    monkeypatch.delenv("FLEET_MODEL_PATH", raising=False)
    assert not model.is_here()
    monkeypatch.setenv("FLEET_MODEL_PATH", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigurationError):
        model.is_here()


def test_a_fetch_that_fails_says_why_and_has_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FLEET_MODEL_PATH", raising=False)
    monkeypatch.setenv("FLEET_MODEL_CACHE", str(tmp_path))
    monkeypatch.setenv("FLEET_MODEL_ID", "nobody/knows-this")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert model.main() == 1
    assert "HF_HUB_OFFLINE" in capsys.readouterr().err


def test_what_no_worker_can_compute_with_is_said_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLEET_MODEL_CACHE", str(tmp_path))
    monkeypatch.setenv("FLEET_DEVICE", "cuda")
    assert model.main() == 1
    assert capsys.readouterr().err.startswith("FLEET_DEVICE=cuda, but ")
    assert list(tmp_path.iterdir()) == []
