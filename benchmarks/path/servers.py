"""The two designs as their clients see them: where to upload, and when all is searchable."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from benchmarks.bench.machine import threads
from benchmarks.bench.process import ROOT
from benchmarks.bench.setup import Setup
from benchmarks.path.texts import TextFile
from benchmarks.stage.fleet import Fleet, points
from embedfleet.local.child import Child
from embedfleet.local.ports import LOOPBACK, free_ports

COLLECTION = "path"
SENDERS = 4
POLL_SECONDS = 0.05
START_SECONDS = 120
DEADLINE_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Design:
    """A system that takes files.

    Attributes:
        name: in tables.
        url: of its API.
        collection: to upload to.
        points: returns how many points are stored by now.
        is_ready: says whether the newest files, so many, are all searchable once their points are stored.
    """

    name: str
    url: str
    collection: str
    points: Callable[[], int]
    is_ready: Callable[[int], bool] = lambda _: True

    def run(self, files: Sequence[TextFile], prefix: str) -> float:
        """Upload files, wait until all of them are searchable; return the seconds.

        Args:
            files: what to upload.
            prefix: before each name, so that no round repeats one.

        Raises:
            RuntimeError: it took too long.
        """
        wanted = self.points() + sum(file.chunks for file in files)
        began = time.perf_counter()
        with _client(self.url) as client:

            def send(file: TextFile) -> None:
                part = (f"{prefix}-{file.name}", file.text.encode())
                form = {"collection": self.collection}
                client.post("/api/v1/documents/upload", files={"file": part}, data=form).raise_for_status()

            with ThreadPoolExecutor(SENDERS) as senders:
                list(senders.map(send, files))
        while self.points() < wanted or not self.is_ready(len(files)):
            if time.perf_counter() - began > DEADLINE_SECONDS:
                raise RuntimeError(f"{self.name}: {wanted - self.points()} points are missing")
            time.sleep(POLL_SECONDS)
        return time.perf_counter() - began


@contextmanager
def ours(fleet: Fleet) -> Iterator[Design]:
    """Be the fleet as a design."""
    url = fleet.state.url
    with _client(url) as api, _client(fleet.state.qdrant) as qdrant:

        def is_ready(count: int) -> bool:
            asked: dict[str, str | int] = {"collection": COLLECTION, "limit": min(count, 1000)}
            answer = api.get("/api/v1/documents", params=asked)
            return all(one["state"] == "READY" for one in answer.raise_for_status().json()["documents"])

        stored = partial(points, qdrant, f"default__{COLLECTION}")
        yield Design("embedfleet", url, COLLECTION, stored, is_ready)


@contextmanager
def plain(setup: Setup, fleet: Fleet, processes: int, database: int) -> Iterator[Design]:
    """Run the plain design with so many worker processes, the machine's cores shared evenly among them.

    Args:
        setup: of this run.
        fleet: whose Redis and Qdrant it uses, too.
        processes: of its worker.
        database: of Redis; none that others use.

    Raises:
        RuntimeError: it doesn't start.
    """
    name = f"plain, {processes} x {max(1, threads() // processes)}"
    collection, (port,) = f"plain-{processes}", free_ports(1)
    uploads = setup.folder / collection
    uploads.mkdir()
    env = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'services'}",
        "BENCH_MODEL": str(setup.weights.folder),
        "BENCH_UPLOADS": str(uploads),
        "BENCH_REDIS": f"{fleet.state.redis.rsplit('/', 1)[0]}/{database}",
        "BENCH_QDRANT": fleet.state.qdrant,
        "BENCH_THREADS": str(max(1, threads() // processes)),
        "NO_PROXY": LOOPBACK,
    }
    module, binaries = "benchmarks.path.plain", setup.torch_environment / "bin"
    serve = [
        str(binaries / "python"),
        "-m",
        "uvicorn",
        f"{module}:app",
        "--host",
        LOOPBACK,
        "--port",
        str(port),
    ]
    work = [str(binaries / "python"), "-m", "celery", "-A", f"{module}:worker", "worker", "--pool=prefork"]
    work += [f"--concurrency={processes}", "--queues=documents,embeddings", "--loglevel=WARNING"]
    log = setup.log(name)
    children = [
        Child(f"{name}, api", [*serve, "--log-level", "warning"], log=log, env=env),
        Child(f"{name}, worker", [*work, "--without-gossip", "--without-mingle"], log=log, env=env),
    ]
    url = f"http://{LOOPBACK}:{port}"
    try:
        for child in children:
            child.start()
        with _client(fleet.state.qdrant) as qdrant:
            design = Design(name, url, collection, partial(points, qdrant, collection))
            _await_api(design, children, log)
            yield design
    finally:
        for child in reversed(children):
            child.stop()


def _client(url: str) -> httpx.Client:
    """Return a client that is made once: making one takes 30 ms of a core, which a wait has no right to."""
    return httpx.Client(base_url=url, timeout=60, trust_env=False)


def _await_api(design: Design, children: Sequence[Child], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            httpx.get(f"{design.url}/openapi.json", timeout=5, trust_env=False).raise_for_status()
        except httpx.HTTPError:
            if any(child.poll() is not None for child in children) or time.monotonic() > deadline:
                raise RuntimeError(f"{design.name} does not start: {children[0].tail(5)} ({log})") from None
            time.sleep(POLL_SECONDS)
        else:
            return
