"""What was acknowledged survives kill -9; the data folder has one owner and no halves in it."""

import random
import signal
import subprocess
import threading
import uuid
from pathlib import Path

import httpx
import numpy as np
import pytest
from tests.api.serving import fetch
from tests.qdrant_process import QdrantProcess

from embedfleet.contracts.errors import DependencyDown, VectorStoreError
from embedfleet.runtime.settings import VectorSettings
from embedfleet.vectors import VectorStore

DIM, BATCH = 32, 64
DEADLINE = 30


def connect(process: QdrantProcess) -> VectorStore:
    return VectorStore(VectorSettings(url=process.url))


def upsert(store: VectorStore, ids: list[str], document: str) -> None:
    vectors = np.random.default_rng(0).standard_normal((len(ids), DIM)).astype(np.float32)
    payloads = [{"document_id": document, "generation": 1, "text": "t" * 500} for _ in ids]
    store.upsert("t__c", ids, vectors, payloads)


def upsert_until_it_dies(process: QdrantProcess, acknowledged: list[str], enough: threading.Event) -> None:
    store = connect(process)
    store.ensure_collection("t__c", DIM)
    try:
        while True:
            ids = [str(uuid.uuid4()) for _ in range(BATCH)]
            upsert(store, ids, "d")
            acknowledged.extend(ids)
            if len(acknowledged) >= 5 * BATCH:
                enough.set()
    except DependencyDown:
        store.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_acknowledged_points_survive_kill_9(seed: int, tmp_path: Path) -> None:
    acknowledged: list[str] = []
    for round_number in range(2):
        with QdrantProcess(tmp_path) as process:
            enough = threading.Event()
            before = len(acknowledged)
            fresh: list[str] = []
            writer = threading.Thread(target=upsert_until_it_dies, args=(process, fresh, enough))
            writer.start()
            assert enough.wait(DEADLINE)
            writer.join(random.Random(seed + 10 * round_number).random())
            process.kill()
            writer.join(DEADLINE)
            acknowledged += fresh
            assert len(acknowledged) > before
        with QdrantProcess(tmp_path) as process:
            store = connect(process)
            assert store.stored("t__c", acknowledged) == set(acknowledged)
            # At most the batch that was under way when it died is there beyond what was acknowledged.
            assert store.count("t__c") <= len(acknowledged) + BATCH * (round_number + 1)
            hits = store.search("t__c", np.ones(DIM, np.float32), 10)
            assert len(hits) == 10
            store.close()


@pytest.mark.slow
def test_a_kill_while_it_opens_loses_nothing(tmp_path: Path) -> None:
    with QdrantProcess(tmp_path) as process:
        store = connect(process)
        store.ensure_collection("t__c", DIM)
        keep, drop = ([str(uuid.uuid4()) for _ in range(2500)] for _ in range(2))
        upsert(store, drop, "drop")
        upsert(store, keep, "keep")
        store.delete_generations("t__c", "drop")
        store.close()
        process.kill()
    dice = random.Random(1)
    for _ in range(6):
        # It replays its log and removes deleted points from its segments now; the kill falls into that.
        child = subprocess.Popen(QdrantProcess(tmp_path).command, stderr=subprocess.DEVNULL)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.3 + dice.random())
        child.kill()
        child.wait(DEADLINE)
    with QdrantProcess(tmp_path) as process:
        store = connect(process)
        assert store.count("t__c") == len(keep)
        assert store.stored("t__c", keep + drop) == set(keep)
        store.close()


def create_and_delete_until_it_dies(process: QdrantProcess, state: dict[str, bool]) -> None:
    with httpx.Client(base_url=process.url, timeout=DEADLINE) as client:
        try:
            for number in range(100_000):
                name = f"c{number % 3}"
                body = {"vectors": {"size": 4, "distance": "Cosine"}}
                del_or_put = state.pop(name, False)
                if del_or_put:
                    client.delete(f"/collections/{name}").raise_for_status()
                else:
                    client.put(f"/collections/{name}", json=body).raise_for_status()
                state[name] = not del_or_put
        except httpx.TransportError:
            return


@pytest.mark.slow
def test_collections_are_whole_or_gone_after_kill_9(tmp_path: Path) -> None:
    dice = random.Random(2)
    for _ in range(4):
        with QdrantProcess(tmp_path) as process:
            names = fetch(f"{process.url}/collections").json()["result"]["collections"]
            for each in names:
                assert fetch(f"{process.url}/collections/{each['name']}", "DELETE").json()["result"] is True
            state: dict[str, bool] = {}
            worker = threading.Thread(target=create_and_delete_until_it_dies, args=(process, state))
            worker.start()
            worker.join(0.5 + dice.random())
            process.kill()
            worker.join(DEADLINE)
        with QdrantProcess(tmp_path) as process:
            for name, exists in state.items():
                answer = fetch(f"{process.url}/collections/{name}")
                assert answer.status_code == (200 if exists else 404), name
            assert list((tmp_path / "unfinished").iterdir()) == []


def test_sigterm_flushes_and_exits_0(tmp_path: Path) -> None:
    with QdrantProcess(tmp_path) as process:
        store = connect(process)
        store.ensure_collection("t__c", DIM)
        ids = [str(uuid.uuid4()) for _ in range(100)]
        upsert(store, ids, "d")
        assert process.stop() == 0
        assert "stopped" in process.log[-1]
        store.close()
    with QdrantProcess(tmp_path) as process:
        assert process.stop(signal.SIGINT) == 0
    with QdrantProcess(tmp_path) as process:
        store = connect(process)
        assert store.stored("t__c", ids) == set(ids)
        store.close()


def refused(*command: str) -> str:
    """Run the stand-in, which must end with 1 and one line; return the line."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with QdrantProcess(tmp_path) as process:
        line = refused(*process.command)
        assert f"is in use by another process (pid {process.process.pid})" in line


def test_a_taken_port_a_wide_host_and_a_damaged_collection_are_refused(tmp_path: Path) -> None:
    with QdrantProcess(tmp_path / "a") as process:
        port = process.url.rpartition(":")[2]
        line = refused(*QdrantProcess(tmp_path / "b", "--port", port).command)
        assert f"127.0.0.1:{port} can't be bound" in line
        httpx.put(f"{process.url}/collections/c", json={"vectors": {"size": 4, "distance": "Cosine"}})
        process.stop()
    assert "isn't a loopback address" in refused(*process.command, "--host", "0.0.0.0")
    (tmp_path / "a" / "collections" / "c" / "meta.json").write_text("{")
    assert "can't be opened" in refused(*process.command)


def test_a_store_whose_server_lost_everything_starts_again(tmp_path: Path) -> None:
    with QdrantProcess(tmp_path) as process:
        store = connect(process)
        store.ensure_collection("t__c", DIM)
        httpx.delete(f"{process.url}/collections/t__c").raise_for_status()
        upsert(store, [str(uuid.uuid4())], "d")
        assert store.count("t__c", "d", 1) == 1
        with pytest.raises(VectorStoreError, match="32 dimensions, the model makes 5"):
            store.ensure_collection("t__c", 5)
        store.close()
