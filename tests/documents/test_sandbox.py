"""The pool survives whatever a file does to its child, and no child outlives the worker."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from embedfleet.contracts.documents import ChunkOptions
from embedfleet.contracts.errors import FleetError
from embedfleet.documents.sandbox import SandboxPool, frames
from embedfleet.documents.sandbox.process import ChildDied, SandboxChild, child_environment
from embedfleet.runtime.settings import SandboxSettings
from tests.documents.make_files import VIETNAMESE, make_pdf


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "document"
    path.write_bytes(make_pdf([VIETNAMESE, "hai", "ba"]))
    return path


@pytest.fixture(scope="session")
def endless(tmp_path_factory):
    """A file that takes far longer than any deadline here."""
    path = tmp_path_factory.mktemp("endless") / "file"
    path.write_text("Một câu dài. " * 2_000_000)
    return path


def read(
    pool, path, *, extension=".pdf", seconds=30.0, check=lambda: None, progress=lambda done, total: None
):
    return pool.process(
        path, extension, ChunkOptions(), deadline_seconds=seconds, on_progress=progress, check=check
    )


def wait_until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def code_of(pool, path, **how):
    with pytest.raises(FleetError) as caught:
        read(pool, path, **how)
    assert caught.value.retryable is (caught.value.code == "sandbox_killed")
    return caught.value.code


def test_a_document_comes_back_with_its_progress(make_pool, document):
    seen = []
    done = read(make_pool(), document, progress=lambda *step: seen.append(step))
    assert done.pages == 3
    assert done.chunks[0].text.startswith("Tiếng Việt")
    assert seen[-1] == (3, 3)


def test_an_error_of_the_file_costs_no_child(make_pool, document, tmp_path):
    pool = make_pool()
    (tmp_path / "bad").write_bytes(b"%PDF-1.4 nothing")
    assert code_of(pool, tmp_path / "bad") == "corrupt"
    pids = pool.pids()
    read(pool, document)
    assert pool.pids() == pids
    assert pool.losses == []


def test_a_missing_file_is_an_os_error(make_pool, tmp_path):
    with pytest.raises(OSError, match="No such file"):
        read(make_pool(), tmp_path / "none")


def test_the_deadline_kills_and_the_pool_goes_on(make_pool, document, endless):
    pool = make_pool()
    started = time.monotonic()
    assert code_of(pool, endless, extension=".txt", seconds=0.5) == "sandbox_timeout"
    assert time.monotonic() - started < 20
    assert read(pool, document).chunks
    assert pool.losses == ["time"]


@pytest.mark.parametrize(
    ("number", "code", "loss"),
    [
        (signal.SIGSEGV, "sandbox_crash", "crash"),
        (signal.SIGABRT, "sandbox_crash", "crash"),
        (signal.SIGKILL, "sandbox_killed", "killed"),
        (signal.SIGXCPU, "sandbox_timeout", "cpu"),
    ],
)
def test_a_crash_is_coded_and_the_pool_goes_on(make_pool, document, endless, number, code, loss):
    pool = make_pool()
    wait_until(pool.pids)
    (pid,) = pool.pids()
    asked = threading.Event()

    def shoot():
        if not asked.is_set():
            asked.set()
            threading.Timer(0.3, os.kill, (pid, number)).start()

    assert code_of(pool, endless, extension=".txt", check=shoot) == code
    assert read(pool, document).chunks
    assert gone(pid)
    assert pool.losses == [loss]


def test_memory_is_limited(make_pool, document, tmp_path):
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(600_000_000)
        file.write(b"text " * 20_000)
    pool = make_pool(FLEET_SANDBOX_MEMORY=400_000_000)
    assert code_of(pool, big, extension=".txt") == "sandbox_memory"
    assert read(pool, document).chunks
    assert pool.losses == ["memory"]


def test_what_check_raises_kills_the_child_and_goes_on(make_pool, document, endless):
    class Revoked(Exception):
        pass

    pool = make_pool()
    wait_until(pool.pids)
    (pid,) = pool.pids()
    calls = []

    def check():
        calls.append(time.monotonic())
        if len(calls) > 5:
            raise Revoked

    with pytest.raises(Revoked):
        read(pool, endless, extension=".txt", check=check)
    assert gone(pid)
    assert max(b - a for a, b in itertools.pairwise(calls)) < 2
    assert read(pool, document).chunks
    assert pool.losses == ["stopped"]


def test_a_child_is_replaced_after_its_files(make_pool, document):
    pool = make_pool(files_per_child=2)
    pids = []
    for _ in range(5):
        read(pool, document)
        wait_until(pool.pids)
        pids.append(pool.pids()[0])
    assert len(set(pids)) == 3
    assert pool.losses == [], "a worn child is no loss"


def test_a_child_that_died_idle_is_nobodys_fault(make_pool, document):
    pool = make_pool()
    wait_until(pool.pids)
    os.kill(pool.pids()[0], signal.SIGKILL)
    assert read(pool, document).chunks
    assert pool.losses == ["idle"]


def test_more_threads_than_children(make_pool, document):
    pool = make_pool(size=2)
    counts = []
    threads = [
        threading.Thread(target=lambda: counts.append(len(read(pool, document).chunks))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(counts) == 6
    assert len(set(counts)) == 1


def test_closing_ends_work_at_once(make_pool, endless):
    pool = make_pool()
    wait_until(pool.pids)
    pids = pool.pids()
    errors = []

    def work():
        try:
            read(pool, endless, extension=".txt")
        except FleetError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    wait_until(lambda: pool._lent)
    pool.close()
    thread.join(10)
    assert [error.code for error in errors] == ["sandbox_unavailable"]
    assert all(gone(pid) for pid in pids)
    assert pool.losses == []


def test_a_tokenizer_that_is_not_there_is_said(tmp_path, document):
    pool = SandboxPool(1, tmp_path / "none.json", 64, SandboxSettings(), 10)
    with pytest.raises(FleetError, match=r"none\.json"):
        read(pool, document)
    pool.close()


WORKER = """
import sys
from pathlib import Path
from embedfleet.contracts.documents import ChunkOptions
from embedfleet.documents.sandbox import SandboxPool
from embedfleet.runtime.settings import SandboxSettings
pool = SandboxPool(2, Path(sys.argv[1]), 64, SandboxSettings(), 10)
while len(pool.pids()) < 2: pass
print(*pool.pids(), flush=True)
pool.process(Path(sys.argv[2]), ".txt", ChunkOptions(), deadline_seconds=600,
             on_progress=lambda done, total: None, check=lambda: None)
"""


def test_no_child_outlives_a_killed_worker(tokenizer_path, endless):
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tokenizer_path), str(endless)], stdout=subprocess.PIPE, text=True
    )
    pids = [int(pid) for pid in worker.stdout.readline().split()]
    assert len(pids) == 2
    wait_until(lambda: any(cpu_ticks(pid) > 100 for pid in pids))
    worker.kill()
    worker.communicate()
    wait_until(lambda: all(gone(pid) for pid in pids), 5)


def cpu_ticks(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])


def test_the_worker_loads_no_parser(tokenizer_path):
    code = (
        "import sys, embedfleet.documents.sandbox, embedfleet.documents.file_types\n"
        "roots = {name.partition('.')[0] for name in sys.modules}\n"
        "print(roots & {'pypdf', 'pypdfium2', 'lxml', 'markdown_it', 'tokenizers', 'ftfy', "
        "'chardet', 'numpy', 'torch'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_secrets_of_the_worker_are_not_in_the_child():
    given = child_environment({"QDRANT_API_KEY": "a-secret", "PATH": "/bin"})
    assert given["PATH"] == "/bin"
    assert "a-secret" not in given.values()


def test_a_child_holds_no_rights_where_the_kernel_has_the_means(liar):
    child, _ = liar
    lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    assert status["NoNewPrivs"].strip() == str(int(child.sealed or child.hidden))
    assert status["Seccomp"].strip() == ("2" if child.sealed else "0")


@pytest.fixture
def liar(tokenizer_path):
    """A child whose pipe we write ourselves, as a parser that was taken over could."""
    config = frames.Config(tokenizer=str(tokenizer_path), max_tokens=64, memory_bytes=10**9, limits={})
    child = SandboxChild(config)
    child.wait_ready(lambda: None)
    reading, writing = os.pipe()
    os.dup2(reading, child._stdout)
    os.close(reading)
    yield child, writing
    os.close(writing)
    child.kill()


@pytest.mark.parametrize(
    "lie",
    [
        frames.HEADER.pack(frames.MAX_REPLY_BYTES + 1),
        frames.HEADER.pack(2) + b"{}",
        frames.HEADER.pack(3) + b"\xff\xfe\xfd",
        frames.HEADER.pack(40) + b'{"kind":"working","done":-1,"total":100}',
    ],
)
def test_frames_that_are_not_ours_kill_the_child(liar, lie):
    child, pipe = liar
    os.write(pipe, lie)
    with pytest.raises(ChildDied):
        next(child.replies(10, lambda: None))
    assert child.death().code == "sandbox_crash"
    assert gone(child.pid)
    assert child.death().code == "sandbox_crash"
