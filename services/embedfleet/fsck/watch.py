"""The same check as metrics: an api of the fleet checks at an interval, all of them show what it found.

What was found is kept in Redis, so each api tells the same and a new one knows when the last check was. So is
the model that the apis serve with: whoever checks by hand need not have it. The thread is not the janitor's:
a check may take minutes, and leases expire meanwhile.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import REGISTRY, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from embedfleet.contracts.errors import DependencyDown
from embedfleet.fsck.course import Fsck
from embedfleet.fsck.findings import Kind, Scope
from embedfleet.runtime.ledger.audit import Summary
from embedfleet.runtime.telemetry import process_name

TICK_SECONDS = 15.0
# An API that checks holds the role this long at least; when it dies another takes over then.
ROLE_SECONDS = 600.0

_log = logging.getLogger(__name__)


class Watch:
    """A thread that notes the model, checks the fleet while it holds the role, and shows what was found.

    Args:
        fsck: the check.
        interval: seconds between two checks; 0: never, and nothing is shown.
        model_key: the model of this process.
        dim: length of that model's vectors.
    """

    def __init__(self, fsck: Fsck, interval: float, model_key: str, dim: int) -> None:
        self._fsck, self._interval = fsck, interval
        self._model_key, self._dim = model_key, dim
        self._name = process_name()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._turn, name="fsck", daemon=True)

    def start(self) -> None:
        """Start to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Stop; a check that is under way ends unfinished."""
        self._stopping.set()
        if self._thread.ident:
            self._thread.join(timeout=10)

    def round(self) -> Summary:
        """Check if it is time and nobody else does; show and return what was found last.

        Raises:
            DependencyDown: Redis, Qdrant or the blobs can't be reached; the next round tries again.
        """
        last, ledger = self._fsck.ledger.summary(), self._fsck.ledger
        if ledger.now() - last.at >= self._interval and ledger.elect("fsck", self._name, ROLE_SECONDS):
            last = self._checked() or last
        self._show(last)
        return last

    def _checked(self) -> Summary | None:
        """Check everything; None when the process stops meanwhile."""
        counts: Counter[str] = Counter()
        inspection = self._fsck.inspection(Scope(), self._model_key, self._stopping.wait)
        for finding in inspection.findings():
            if self._stopping.is_set():
                return None
            counts[finding.kind] += 1
        found = Summary(self._fsck.ledger.now(), dict(counts))
        if self._stopping.is_set():
            return None
        self._fsck.ledger.note_summary(found)
        if counts:
            _log.warning("the check found inconsistencies, see `embedfleet fsck`", extra={"found": counts})
        return found

    def _recall(self) -> None:
        self._show(self._fsck.ledger.summary())

    def _show(self, summary: Summary) -> None:
        SHOWN.interval, SHOWN.summary = self._interval, summary  # the summary last: it is what is asked for

    def _turn(self) -> None:
        step: Callable[[], object] = self._recall  # at once; a check waits until the others are up, too
        starts, pause = True, min(TICK_SECONDS, self._interval or TICK_SECONDS)
        while not self._stopping.is_set():
            try:
                self._fsck.ledger.note_served(self._model_key, self._dim, starts=starts)
                starts = False
                if self._interval:
                    step()
            except DependencyDown as error:
                _log.warning("the check waits: %s", error)
            except Exception:
                _log.exception("the check failed")
            self._stopping.wait(pause)
            step = self.round


class Shown(Collector):
    """What this process shows: nothing before it has read a summary, for zeros would end an alert."""

    summary: Summary | None = None
    interval = 0.0

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges; a kind of which nothing was found is 0."""
        findings = GaugeMetricFamily(
            "fleet_fsck_findings", "Inconsistencies that the last check found.", labels=["kind"]
        )
        last_run = GaugeMetricFamily(
            "fleet_fsck_last_run_timestamp_seconds", "When the last check ended; 0: never."
        )
        interval = GaugeMetricFamily(
            "fleet_fsck_interval_seconds", "Seconds between two checks, FLEET_FSCK_SECONDS."
        )
        if self.summary:
            for kind in Kind:
                findings.add_metric([kind], self.summary.counts.get(kind, 0))
            last_run.add_metric([], self.summary.at)
            interval.add_metric([], self.interval)
        yield from (findings, last_run, interval)


SHOWN = Shown()
REGISTRY.register(SHOWN)
