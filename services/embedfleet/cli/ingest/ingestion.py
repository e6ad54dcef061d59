"""Uploads files in parallel and follows each document until it ends."""

import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from embedfleet.cli.client import PREFIX, Client
from embedfleet.cli.ingest.sources import Source
from embedfleet.contracts.errors import FleetError, Gone, NotFound, Unauthorized
from embedfleet.contracts.states import TERMINAL_DOCUMENT_STATES, DocumentState

UPLOADS_AT_ONCE = 4
# Enough for workers to batch across documents; few enough to see a mistake before all is uploaded.
IN_FLIGHT = 64
UNCHANGED, REPLACES = "nothing to do", "replaces an older version"
FAST_POLL_SECONDS, SLOW_POLL_SECONDS, FAST_FOR_SECONDS = 0.25, 1.0, 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a file ended.

    Attributes:
        state: a terminal document state, or REFUSED (never accepted), TIMEOUT (the fleet goes on with it).
        chunks: chunks that search can find.
        seconds: since its upload began.
        note: what the API said of an upload that isn't a new document: UNCHANGED or REPLACES, else "".
        error: code and detail; None when READY.
    """

    file: str
    document_id: str | None
    state: str
    chunks: int
    seconds: float
    note: str = ""
    error: dict[str, Any] | None = None

    @property
    def is_ready(self) -> bool:
        """Whether search finds it."""
        return self.state == DocumentState.READY

    def event(self) -> dict[str, Any]:
        """Return it as a JSON line has it."""
        return {"event": "done", **asdict(self), "seconds": round(self.seconds, 3)}


@dataclass(frozen=True, slots=True)
class Seen:
    """Where a document is.

    Attributes:
        state: its state; "" until it is known.
        done: chunks that are stored.
        total: all chunks; None until it is known.
        waits: why nobody works on it, or "".
    """

    state: str = ""
    done: int = 0
    total: int | None = None
    waits: str = ""


class Reporter(Protocol):
    """Told of everything that happens, by one thread."""

    def uploading(self, source: Source) -> None:
        """An upload begins."""

    def progressed(self, source: Source, seen: Seen) -> None:
        """A document moved."""

    def finished(self, source: Source, outcome: Outcome) -> None:
        """A file ended."""


@dataclass(slots=True)
class _Flight:
    """An accepted document that hasn't ended."""

    source: Source
    began: float
    accepted: float
    task_id: str
    document_id: str
    note: str
    poll_at: float = 0.0
    seen: Seen = Seen()


@dataclass(slots=True)
class Ingestion:
    """One run.

    Attributes:
        client: the API.
        form: fields of every upload: collection and options.
        timeout: seconds that an overloaded API is asked again, and an accepted document waited for.
        reporter: told of progress.
    """

    client: Client
    form: dict[str, str]
    timeout: float
    reporter: Reporter
    _uploads: dict[Future[dict[str, Any]], tuple[Source, float]] = field(default_factory=dict)
    _flights: list[_Flight] = field(default_factory=list)
    _outcomes: list[Outcome] = field(default_factory=list)

    def run(self, sources: Sequence[Source]) -> list[Outcome]:
        """Upload and follow all files; return how each ended, in the order of their ends."""
        waiting = iter(sources)
        pool = ThreadPoolExecutor(UPLOADS_AT_ONCE, thread_name_prefix="upload")
        try:
            while len(self._outcomes) < len(sources):
                self._fill(pool, waiting)
                self._collect()
                for flight in [one for one in self._flights if one.poll_at <= time.monotonic()]:
                    self._poll(flight)
        finally:
            self.client.stopped.set()
            pool.shutdown(cancel_futures=True)
        return self._outcomes

    def _fill(self, pool: ThreadPoolExecutor, waiting: Iterator[Source]) -> None:
        """Begin uploads while there is room."""
        while len(self._uploads) < UPLOADS_AT_ONCE and len(self._uploads) + len(self._flights) < IN_FLIGHT:
            source = next(waiting, None)
            if source is None:
                return
            self.reporter.uploading(source)
            self._uploads[pool.submit(self._upload, source)] = (source, time.monotonic())

    def _upload(self, source: Source) -> dict[str, Any]:
        """Send one file; opened anew each time that the call is repeated. Runs on a thread of the pool."""

        def send(http: Any) -> Any:
            with source.path.open("rb") as stream:
                return http.post(
                    f"{PREFIX}/documents/upload",
                    data={**self.form, "document_key": source.key},
                    files={"file": (source.key.rsplit("/", 1)[-1], stream)},
                )

        return self.client.call(send, patience=self.timeout)

    def _collect(self) -> None:
        """Wait a little for uploads to end, and take note of those that did."""
        if not self._uploads:
            self.client.stopped.wait(FAST_POLL_SECONDS / 2)
            return
        for upload in wait(self._uploads, FAST_POLL_SECONDS / 2, FIRST_COMPLETED).done:
            source, began = self._uploads.pop(upload)
            try:
                answer = upload.result()
                task_id, document_id = str(answer["task_id"]), str(answer["document_id"])
            except Unauthorized:
                raise  # so it will be for every file
            except FleetError as error:
                self._end(source, None, began, "REFUSED", error=error.as_dict())
            except OSError as error:
                detail = f"the file can't be read: {error.strerror}"
                self._end(source, None, began, "REFUSED", error={"code": "unreadable", "detail": detail})
            except KeyError:
                detail = "the API's answer has no task_id or document_id: is --url right?"
                self._end(source, None, began, "REFUSED", error={"code": "not_embedfleet", "detail": detail})
            else:
                note = note_of(answer)
                self._flights.append(_Flight(source, began, time.monotonic(), task_id, document_id, note))

    def _poll(self, flight: _Flight) -> None:
        """Ask for a document once."""
        age = time.monotonic() - flight.accepted
        flight.poll_at = time.monotonic() + (
            FAST_POLL_SECONDS if age < FAST_FOR_SECONDS else SLOW_POLL_SECONDS
        )
        try:
            document = self._document(flight)
        except FleetError as error:
            if not error.retryable:
                self._land(flight, "FAILED", error=error.as_dict())
                return
            # The document was accepted: it goes on, whatever becomes of this question.
            flight.poll_at = time.monotonic() + SLOW_POLL_SECONDS
            self._note(flight, replace(flight.seen, waits=error.code))
        else:
            if self._moved(flight, document):
                return
        if age > self.timeout:
            detail = f"not ready after {self.timeout:g} s; the fleet goes on with it"
            self._land(flight, "TIMEOUT", error={"code": "timeout", "detail": detail})

    def _document(self, flight: _Flight) -> dict[str, Any]:
        """Return the document's part of the task, or the document itself once the task has expired."""
        try:
            document = self.client.get(f"/tasks/{flight.task_id}").get("document")
        except Gone:
            document = self.client.get(f"/documents/{flight.document_id}")
        if not isinstance(document, dict):
            raise NotFound("the document was deleted meanwhile")
        return document

    def _moved(self, flight: _Flight, document: dict[str, Any]) -> bool:
        """Report where a document is; say whether it ended."""
        state, (done, total) = str(document.get("state", "")), progress_of(document)
        self._note(flight, Seen(state, done, total, str(document.get("wait_reason") or "")))
        if state not in TERMINAL_DOCUMENT_STATES:
            return False
        error = document.get("error")
        if state != DocumentState.READY and not isinstance(error, dict):
            error = {"code": state.lower(), "detail": f"the document is {state}"}
        self._land(flight, state, done, error)
        return True

    def _note(self, flight: _Flight, seen: Seen) -> None:
        if seen != flight.seen:
            flight.seen = seen
            self.reporter.progressed(flight.source, seen)

    def _land(
        self, flight: _Flight, state: str, chunks: int = 0, error: dict[str, Any] | None = None
    ) -> None:
        self._flights.remove(flight)
        self._end(flight.source, flight.document_id, flight.began, state, chunks, error, flight.note)

    def _end(
        self,
        source: Source,
        document_id: str | None,
        began: float,
        state: str,
        chunks: int = 0,
        error: dict[str, Any] | None = None,
        note: str = "",
    ) -> None:
        outcome = Outcome(source.label, document_id, state, chunks, time.monotonic() - began, note, error)
        self._outcomes.append(outcome)
        self.reporter.finished(source, outcome)


def note_of(answer: dict[str, Any]) -> str:
    """Return what an accepted upload is besides a new document, as far as the API's message says so."""
    message = str(answer.get("message", ""))
    if message.endswith("nothing to do"):
        return UNCHANGED
    return REPLACES if " as generation " in message else ""


def progress_of(document: dict[str, Any]) -> tuple[int, int | None]:
    """Return chunks that are stored, and how many there will be (None: not known yet)."""
    progress = document.get("progress")
    if not isinstance(progress, dict):
        return 0, None
    total = progress.get("total")
    return int(progress.get("done") or 0), int(total) if total is not None else None


def upload_form(
    collection: str,
    chunk_size: int | None,
    chunk_overlap: int | None,
    chunker: str | None,
    metadata: str | None,
) -> dict[str, str]:
    """Return the fields of an upload; what isn't given is left to the API.

    Raises:
        ValueError: the metadata is not a JSON object.
    """
    if metadata is not None and not isinstance(json.loads(metadata), dict):
        raise ValueError("must be a JSON object")
    fields = {
        "collection": collection,
        "chunk_size": chunk_size,
        "chunk_overlap": chunk_overlap,
        "chunker_type": chunker,
        "metadata": metadata,
    }
    return {name: str(value) for name, value in fields.items() if value is not None}
