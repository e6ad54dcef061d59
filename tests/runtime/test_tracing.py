"""Traces: off without a trace of them, on as one trace whatever becomes of the messages."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from embedfleet.contracts.errors import ConfigurationError, DocumentProcessingError, InvalidRequest
from embedfleet.contracts.jobs import Job
from embedfleet.runtime import tracing
from embedfleet.runtime.ledger import Ledger
from embedfleet.runtime.ledger.records import Part
from embedfleet.runtime.settings import TracingSettings
from embedfleet.runtime.worker.runs import Run
from embedfleet.runtime.worker.worker import Worker
from tests.runtime.uploads import claim, upload

USERS = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE_ID, SPAN_ID = (int(part, 16) for part in USERS.split("-")[1:3])
SECRET = "hợp đồng.pdf is torn"


class Spans:
    """What was traced, in the order in which it ended."""

    def __init__(self, exporter: Any) -> None:
        self._exporter = exporter

    def all(self, name: str = "") -> list[Any]:
        return [one for one in self._exporter.get_finished_spans() if name in ("", one.name)]

    def one(self, name: str) -> Any:
        (found,) = self.all(name)
        return found


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    """Tracing is on, into memory."""
    trace = pytest.importorskip("opentelemetry.sdk.trace", reason="the extra `otel` is not installed")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    provider, exporter = trace.TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "_tracer", provider.get_tracer("test"))
    yield Spans(exporter)
    provider.shutdown()


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets the variables of OpenTelemetry, and no others of it."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)

    def use(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(tracing, "load", lambda section: section())
        monkeypatch.setattr(tracing, "_tracer", None)

    return use


def accept(ledger: Ledger, parent: str = USERS) -> Job:
    with tracing.span("upload", parent, "SERVER"):
        (job,) = ledger.accept(upload()).publish
    return job


def chunk(worker: Worker, *parts: str) -> Callable[[Run], None]:
    def work(run: Run) -> None:
        run.enter("parse", 60)
        rows = [Part(part, number, 1, "f") for number, part in enumerate(parts)]
        worker.publish(worker.ledger.chunked(run.claim, rows, {"success": True}) or [])

    return work


def fail(error: Exception) -> Callable[[Run], None]:
    def work(run: Run) -> None:
        raise error

    return work


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, "none"),
        ({"OTEL_SERVICE_NAME": "mine"}, "none"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, "otlp"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "console"}, "console"),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "otlp"),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, "none"),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, "none"),
    ],
)
def test_the_standard_variables_decide(
    settings: Callable[..., None], variables: dict[str, str], wanted: str
) -> None:
    settings(**variables)
    assert TracingSettings().wanted == wanted


def test_what_is_asked_for_and_not_installed_is_refused_with_the_name_of_the_extra(
    settings: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings(OTEL_TRACES_EXPORTER="otlp")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigurationError, match=r"embedfleet\[otel\]"):
        tracing.start("embedfleet-api")
    assert not tracing.is_on()


def test_a_protocol_that_is_not_spoken_is_refused(settings: Callable[..., None]) -> None:
    settings(OTEL_EXPORTER_OTLP_ENDPOINT="http://collector:4317", OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
    with pytest.raises(ConfigurationError, match="OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"):
        tracing.start("embedfleet-api")


def test_off_nothing_that_traces_is_loaded() -> None:
    script = (
        "import sys; from embedfleet.runtime import tracing; import embedfleet.runtime.worker.worker;"
        "tracing.start('x'); tracing.traceparent()\n"
        "with tracing.span('x', '', 'SERVER'): tracing.note(chunks=1)\n"
        "theirs = ('opentelemetry.sdk.trace', 'opentelemetry.exporter')\n"
        "print([name for name in sys.modules if name.startswith(theirs)])"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_off_the_ledger_keeps_nothing_of_traces(ledger: Ledger) -> None:
    job = accept(ledger)
    assert claim(ledger, job).trace == ""
    assert ledger._redis.keys("trace:*") == []


def test_a_users_trace_goes_on_through_both_tasks(spans: Spans, worker: Worker) -> None:
    job = accept(worker.ledger)
    worker.run(job, chunk(worker, "p1", "p2"), "")
    uploaded, task, stage = spans.one("upload"), spans.one("process_document"), spans.one("parse")
    assert (uploaded.parent.trace_id, uploaded.parent.span_id) == (TRACE_ID, SPAN_ID)
    assert task.parent.span_id == uploaded.context.span_id
    assert stage.parent.span_id == task.context.span_id
    assert {one.context.trace_id for one in spans.all()} == {TRACE_ID}
    attributes = {"task_id": "t1", "document_id": upload().id, "size_bytes": 3, "state": "SUCCESS"}
    assert (
        attributes.items()
        <= {key.removeprefix("fleet."): value for key, value in task.attributes.items()}.items()
    )
    for part in worker.published:  # type: ignore[attr-defined]
        of_part = claim(worker.ledger, part, f"owner of {part.task_id}").trace
        assert of_part == f"00-{TRACE_ID:032x}-{uploaded.context.span_id:016x}-01"


def test_a_message_that_the_janitor_writes_anew_leads_to_the_same_trace(spans: Spans, ledger: Ledger) -> None:
    ledger._redis.set("scanned", 1)
    accept(ledger)
    ledger._redis.hset("task:t1", "published_at", 1)
    (again,) = ledger.scan()[0]
    assert f"{TRACE_ID:032x}" in claim(ledger, again).trace


def test_retries_are_further_spans_of_the_trace(spans: Spans, worker: Worker) -> None:
    job = accept(worker.ledger)
    worker.run(job, fail(ZeroDivisionError(SECRET)), "")
    worker.ledger._redis.hset("task:t1", "next_at", 1)
    worker.run(job, chunk(worker, "p"), "")
    first, second = spans.all("process_document")
    assert first.context.trace_id == second.context.trace_id == TRACE_ID
    assert (first.attributes["fleet.state"], first.attributes["error.type"]) == ("RETRY", "internal")
    assert (first.attributes["fleet.attempt"], second.attributes["fleet.attempt"]) == (0, 1)
    assert second.status.is_unset


def test_an_error_is_noted_by_its_code_and_nothing_a_user_wrote_is(spans: Spans, worker: Worker) -> None:
    job = accept(worker.ledger)
    worker.run(job, fail(DocumentProcessingError(SECRET, code="corrupt")), "")
    with pytest.raises(InvalidRequest), tracing.span("upload", "", "SERVER"):
        raise InvalidRequest(SECRET, code="invalid_filename")
    task, refused = spans.one("process_document"), spans.all("upload")[1]
    assert (task.attributes["fleet.state"], task.attributes["error.type"]) == ("FAILURE", "corrupt")
    assert (refused.attributes["error.type"], refused.status.is_ok) == ("invalid_filename", False)
    told = "".join(one.to_json() for one in spans.all())
    assert all(word not in told for word in ("torn", "a.txt", "Traceback"))


@pytest.mark.parametrize(
    "parent", ["", "nonsense", "00-" + "0" * 32 + "-00f067aa0ba902b7-01", USERS + "-more"]
)
def test_a_traceparent_that_is_not_valid_begins_a_trace(spans: Spans, parent: str) -> None:
    with tracing.span("upload", parent, "SERVER"):
        carried = tracing.traceparent()
    assert spans.one("upload").parent is None
    assert len(carried) == 55


def test_what_a_user_does_not_sample_is_not_traced_by_workers(spans: Spans, worker: Worker) -> None:
    job = accept(worker.ledger, USERS[:-1] + "0")
    worker.run(job, chunk(worker, "p"), "")
    assert spans.all() == []


def test_the_context_expires_and_is_in_no_row(
    spans: Spans, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = accept(ledger)
    assert ledger._redis.keys("trace:*") == ["trace:t1"]
    assert 0 < ledger._redis.ttl("trace:t1") <= 86400 + 3600
    # A worker of the version before, or one that doesn't trace, takes the task as any other.
    monkeypatch.setattr(tracing, "_tracer", None)
    assert claim(ledger, job).trace == ""


def test_a_task_without_a_context_is_a_trace_of_its_own(spans: Spans, worker: Worker) -> None:
    job = accept(worker.ledger)
    worker.ledger._redis.delete("trace:t1")
    worker.run(job, chunk(worker, "p"), "")
    task = spans.one("process_document")
    assert task.parent is None
    assert task.attributes["fleet.task_id"] == "t1"


def test_work_for_several_runs_at_once_is_a_span_of_each(spans: Spans) -> None:
    contexts = []
    for _ in range(2):
        with tracing.span("generate_embeddings", "", "CONSUMER"):
            contexts.append(tracing.context())
    with tracing.shared("upsert", [(contexts[0], 3), (contexts[1], 5), (None, 7)]):
        pass
    runs, upserts = spans.all("generate_embeddings"), spans.all("upsert")
    points = {one.parent.span_id: one.attributes["fleet.points"] for one in upserts}
    assert points == {run.context.span_id: count for run, count in zip(runs, (3, 5), strict=True)}
