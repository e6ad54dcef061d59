"""A Prometheus of our own on the loopback address: scrapes a fleet, and answers from what it has recorded."""

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import psutil
from benchmarks.bench.machine import processor, threads

from embedfleet.local.child import Child
from embedfleet.local.ports import LOOPBACK, free_ports

MISSING = "no `prometheus` on PATH: on Debian `apt-get install prometheus`"
START_SECONDS = 60
POLL_SECONDS = 0.05
# Blocks of a record that is older than the default would be deleted at the start.
RETENTION = "100y"
POINTS = 240
SPAN = "span.json"

Series = dict[str, Any]


class PrometheusError(RuntimeError):
    """Prometheus can't be started, or refuses a question; the text is its own."""


@dataclass(frozen=True, slots=True)
class Scrape:
    """What is scraped: `host:port`, and the labels that its series get."""

    address: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Span:
    """When something was recorded, in Unix seconds, and on which machine."""

    begin: float
    end: float
    machine: str

    @property
    def step(self) -> float:
        """Seconds between two points of a picture."""
        return max(1.0, (self.end - self.begin) / POINTS)


def binary() -> str | None:
    """Return where Prometheus is; None when it isn't installed."""
    return shutil.which("prometheus")


def members(url: str, pids: Mapping[str, int]) -> dict[str, str]:
    """Return where the members of a fleet on this machine have their metrics.

    Args:
        url: of the API.
        pids: process ids by member, as `embedfleet up` tells them.
    """
    found = {"api": url.removeprefix("http://")}
    for name, pid in pids.items():
        if name.startswith(("documents", "embeddings")):
            found[name] = f"{LOOPBACK}:{psutil.Process(pid).environ()['FLEET_PROBE_PORT']}"
    return found


class Prometheus:
    """A running Prometheus; a context manager, of the main thread.

    Args:
        folder: of its data, its configuration and its log; data of an earlier run is kept.
        scrapes: none to answer from the data alone.
        rules: files that it evaluates.
        seconds: between two scrapes, and two evaluations.

    Raises:
        PrometheusError: it isn't installed or doesn't start.
    """

    def __init__(
        self, folder: Path, scrapes: Sequence[Scrape] = (), rules: Sequence[Path] = (), seconds: int = 1
    ) -> None:
        program = binary()
        if program is None:
            raise PrometheusError(MISSING)
        folder.mkdir(parents=True, exist_ok=True)
        # JSON is YAML.
        config = folder / "prometheus.yml"
        config.write_text(json.dumps(_config(scrapes, rules, seconds)), "utf-8")
        (port,) = free_ports(1)
        address = f"{LOOPBACK}:{port}"
        command = [program, f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
        command += [f"--web.listen-address={address}", f"--storage.tsdb.retention.time={RETENTION}"]
        self._child = Child("prometheus", command, log=folder / "prometheus.log", stop_seconds=30)
        self._http = httpx.Client(base_url=f"http://{address}", timeout=30, trust_env=False)

    def __enter__(self) -> Self:
        self._child.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._is_ready():
            if self._child.poll() is not None or time.monotonic() > deadline:
                self._child.stop()
                raise PrometheusError(f"Prometheus did not start: {self._child.tail(5)}")
            time.sleep(POLL_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()
        self._child.stop()

    def now(self, expression: str) -> list[Series]:
        """Return the series of an expression now: `metric` (labels) and `value` (second, text)."""
        return list(self._asked("query", query=expression)["result"])

    def over(self, expression: str, span: Span) -> list[Series]:
        """Return the series of an expression over a time: `metric` and `values`."""
        asked = {"start": span.begin, "end": span.end, "step": span.step}
        return list(self._asked("query_range", query=expression, **asked)["result"])

    def series(self, selector: str) -> list[dict[str, str]]:
        """Return the labels of all series of a selector, whenever they were."""
        return list(self._asked("series", **{"match[]": selector}))

    def formatted(self, expression: str) -> str:
        """Return an expression as Prometheus itself writes what it has parsed."""
        return str(self._asked("format_query", query=expression))

    def rules(self) -> list[dict[str, Any]]:
        """Return all rules, each with `health` and `lastError`."""
        return [rule for group in self._asked("rules")["groups"] for rule in group["rules"]]

    def _is_ready(self) -> bool:
        try:
            return self._http.get("/-/ready").is_success
        except httpx.HTTPError:
            return False

    def _asked(self, what: str, **question: str | float) -> Any:
        answer = self._http.get(f"/api/v1/{what}", params=question)
        said = answer.json() if "json" in answer.headers.get("content-type", "") else {}
        if said.get("status") != "success":
            raise PrometheusError(f"{question}: {said.get('error', answer.status_code)}")
        return said["data"]


@contextmanager
def recording(folder: Path, addresses: Mapping[str, str], seconds: int = 2) -> Iterator[Prometheus]:
    """Record what the members of a fleet show meanwhile, for `recorded`.

    Args:
        folder: an earlier record in it is replaced.
        addresses: by member.
        seconds: between two scrapes.
    """
    shutil.rmtree(folder, ignore_errors=True)
    scrapes = [Scrape(address, {"instance": name}) for name, address in addresses.items()]
    with Prometheus(folder, scrapes, seconds=seconds) as prometheus:
        begin = time.time()
        try:
            yield prometheus
        finally:
            span = Span(begin, time.time(), f"{threads()} threads of {processor()}")
            (folder / SPAN).write_text(json.dumps(asdict(span)), "utf-8")


def recorded(folder: Path) -> Span:
    """Return when a record was made.

    Raises:
        OSError: there is none.
    """
    return Span(**json.loads((folder / SPAN).read_text("utf-8")))


def _config(scrapes: Sequence[Scrape], rules: Sequence[Path], seconds: int) -> dict[str, Any]:
    every = f"{seconds}s"
    targets = [{"targets": [one.address], "labels": dict(one.labels)} for one in scrapes]
    return {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": [str(path.resolve()) for path in rules],
        "scrape_configs": [{"job_name": "fleet", "static_configs": targets}],
    }
