"""The book of a run: what was sent, what the fleet promised, what came of it. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

READY, FAILED, REVOKED = ENDED = ("READY", "FAILED", "REVOKED")
IDLE, LOAD = "idle", "under ingest"
LOST = "LOST"


@dataclass(slots=True)
class Upload:
    """An upload that was answered 202. Times are seconds since the run began.

    Attributes:
        kind: for reports: type, size and, of a generated file, language.
        name: of the file.
        size: in bytes.
        version: 2 for a document that was uploaded again with a change.
        is_seed: sent before the measurement, so that there is something to search.
        due: when it was to be sent; what the load test itself is late by counts as waiting.
        document_id: promised.
        task_id: promised.
        ended: when its end was seen, None until then.
        state: the document's, as seen last.
        code: of the error, when it FAILED.
        chunks: of the document, once that is known.
        is_stopped: a revoke was answered with success.
    """

    kind: str
    name: str
    size: int
    version: int
    is_seed: bool
    due: float
    document_id: str
    task_id: str
    ended: float | None = None
    state: str = ""
    code: str = ""
    chunks: int = 0
    is_stopped: bool = False

    @property
    def fate(self) -> str:
        """READY, FAILED (with a code) or REVOKED (as asked); anything else is LOST."""
        if self.is_stopped or self.state == REVOKED:
            return REVOKED if self.is_stopped and self.state == REVOKED else LOST
        if self.state == FAILED:
            return FAILED if self.code else LOST
        return READY if self.state == READY and self.ended is not None else LOST

    @property
    def seconds(self) -> float:
        """From when it was due to the end that was seen."""
        return (self.ended if self.ended is not None else math.nan) - self.due


@dataclass(frozen=True, slots=True)
class Search:
    """A search that was answered: when it was due, milliseconds since then, and `IDLE` or `LOAD`."""

    at: float
    milliseconds: float
    phase: str


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a run; `thresholds.toml` names them.

    Attributes:
        given_up: uploads that were still refused when their time was over.
        late_s: by how much a request was sent after it was due, at most: of the load test, not of the fleet.
        growth_s: median wait of the last third of the documents that were new and are READY, less that of the
            first third. 0 where the queue stays as long as it is.
        chunks_s: of new documents: those of one uploaded again are copied, all but the changed ones.
    """

    uploads: int
    ready: int
    failed: int
    revoked: int
    changed: int
    lost: int
    errors: int
    refused: int
    given_up: int
    searches: int
    late_s: float
    searchable_p50_s: float
    searchable_p95_s: float
    search_idle_p95_ms: float
    search_p95_ms: float
    growth_s: float
    drain_s: float
    docs_s: float
    chunks_s: float

    def line(self, word: str) -> str:
        """Return the last line of a run that kept its thresholds."""
        return (
            f"{word} ok: uploads={self.uploads} errors={self.errors} lost={self.lost}"
            f" searchable_p95_s={self.searchable_p95_s:.2f} search_p95_ms={self.search_p95_ms:.0f}"
            f" docs_s={self.docs_s:.2f} chunks_s={self.chunks_s:.1f}"
        )

    def details(self) -> str:
        """Return the rest of the figures for people."""
        return (
            f"ready={self.ready} revoked={self.revoked} changed={self.changed} failed={self.failed}"
            f" refused={self.refused} given_up={self.given_up} searches={self.searches}"
            f" search_idle_p95_ms={self.search_idle_p95_ms:.0f}"
            f" searchable_p50_s={self.searchable_p50_s:.2f} growth_s={self.growth_s:.2f}"
            f" drain_s={self.drain_s:.1f} late_s={self.late_s:.2f}"
        )

    def as_dict(self) -> dict[str, float]:
        """Return the figures by name."""
        return asdict(self)


@dataclass
class Book:
    """All that a run has seen; `last_arrival` is the second in which the last user was to come."""

    uploads: list[Upload] = field(default_factory=list)
    searches: list[Search] = field(default_factory=list)
    refused: int = 0
    given_up: int = 0
    late_s: float = 0.0
    last_arrival: float = 0.0

    def offered(self) -> list[Upload]:
        """Return the uploads that count: all but the seeds."""
        return [one for one in self.uploads if not one.is_seed]

    def newest(self) -> list[Upload]:
        """Return the last upload of each document."""
        return list({one.document_id: one for one in self.uploads}.values())

    def summary(self, errors: int) -> Summary:
        """Return the figures; `errors` are requests that failed and users that broke."""
        offered = self.offered()
        fates = [one.fate for one in offered]
        ready = [one for one in offered if one.fate == READY]
        new = [one for one in ready if one.version == 1]
        began = min((one.due for one in offered), default=0.0)
        ended = max((one.ended for one in offered if one.ended is not None), default=began)
        seconds = max(ended - began, 1e-9)
        waits = [one.seconds for one in ready]
        return Summary(
            uploads=len(offered),
            ready=len(ready),
            failed=fates.count(FAILED),
            revoked=fates.count(REVOKED),
            changed=sum(one.version > 1 for one in offered),
            lost=[one.fate for one in self.uploads].count(LOST),
            errors=errors,
            refused=self.refused,
            given_up=self.given_up,
            late_s=self.late_s,
            searches=len(self._milliseconds(LOAD)),
            searchable_p50_s=percentile(waits, 0.5),
            searchable_p95_s=percentile(waits, 0.95),
            search_idle_p95_ms=percentile(self._milliseconds(IDLE), 0.95),
            search_p95_ms=percentile(self._milliseconds(LOAD), 0.95),
            growth_s=_growth([one.seconds for one in sorted(new, key=lambda one: one.due)]),
            drain_s=max(ended - self.last_arrival, 0.0),
            docs_s=len(ready) / seconds,
            chunks_s=sum(one.chunks for one in new) / seconds,
        )

    def _milliseconds(self, phase: str) -> Sequence[float]:
        return [one.milliseconds for one in self.searches if one.phase == phase]


def without_nan(figures: Mapping[str, float]) -> dict[str, float | None]:
    """Return figures as JSON can hold them: None for what is not a number."""
    return {name: None if math.isnan(value) else value for name, value in figures.items()}


def percentile(values: Iterable[float], share: float) -> float:
    """Return the least value that so large a share of all doesn't exceed; not a number for none.

    Locust's own are rounded to two digits, by which a bound of six times a small figure may be missed.
    """
    ranked = sorted(values)
    return ranked[max(math.ceil(share * len(ranked)) - 1, 0)] if ranked else math.nan


def _growth(waits: Sequence[float]) -> float:
    third = len(waits) // 3
    return percentile(waits[len(waits) - third :], 0.5) - percentile(waits[:third], 0.5)
