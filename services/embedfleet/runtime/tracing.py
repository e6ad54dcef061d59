"""Traces: one from the upload to the upsert, over both queues; off unless OTEL_… variables ask for them.

A message carries no context: it may be lost, and the janitor writes it anew from the task's row. So the
ledger keeps the upload's `traceparent` for the document task, under a key of its own (``trace:<task>``): a
row with a field that the version before doesn't know would be handed back by its workers. Each claim of the
task, and of the embedding tasks that it makes, answers with it; so retries are further spans of one trace.

Off, nothing of OpenTelemetry is imported here, and each call is one look at `_tracer`. Attributes are ids,
counts, sizes, queues, states and codes: never text, a name that a user gave, or a key of the API.
"""

import atexit
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import embedfleet
from embedfleet.contracts.errors import ConfigurationError, FleetError
from embedfleet.runtime.settings import TracingSettings, load

OTLP = "http/protobuf"
# What the end of a process waits for a collector.
SEND_SECONDS = 1.0
# How names of attributes begin: `fleet.task_id`.
_PREFIX = "fleet."
# A block that is no span.
OFF = nullcontext()

_tracer: Any = None


def start(service: str) -> None:
    """Trace from now on, if the environment asks for it; once a process.

    Args:
        service: what the process is called unless OTEL_SERVICE_NAME says otherwise.

    Raises:
        ConfigurationError: the extra isn't installed, or an exporter is asked for that there isn't.
    """
    global _tracer
    settings = load(TracingSettings)
    if settings.wanted == "none":
        return
    if settings.wanted == "otlp" and (settings.traces_protocol or settings.protocol) != OTLP:
        raise ConfigurationError(
            f"traces go over {OTLP} alone: set OTEL_EXPORTER_OTLP_PROTOCOL={OTLP} and the port that the"
            " collector takes it on, or OTEL_TRACES_EXPORTER=none"
        )
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        exporter = _exporter(settings.wanted)
    except ImportError as error:
        raise ConfigurationError(
            "traces are asked for (OTEL_…), and OpenTelemetry is not installed: install the extra"
            " `embedfleet[otel]`, or set OTEL_TRACES_EXPORTER=none"
        ) from error
    resource = Resource.create(
        {"service.name": settings.service_name or service, "service.version": embedfleet.__version__}
    )
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _send_at_the_end(provider)
    _tracer = provider.get_tracer("embedfleet", embedfleet.__version__)


def is_on() -> bool:
    """Say whether this process traces."""
    return _tracer is not None


def traceparent() -> str:
    """Return the context of the span that this thread is in, as W3C writes it; empty when there is none."""
    if _tracer is None:
        return ""
    carrier: dict[str, str] = {}
    _propagator().inject(carrier)
    return carrier.get("traceparent", "")


def span(name: str, parent: str, kind: str, **attributes: Any) -> AbstractContextManager[None]:
    """Make a block a span.

    Args:
        name: of the span.
        parent: a `traceparent`; one that isn't valid, or none, begins a trace.
        kind: name of a `SpanKind`.
        attributes: as for `note`.
    """
    return OFF if _tracer is None else _span(name, parent, kind, attributes)


def note(**attributes: Any) -> None:
    """Add attributes to the span that this thread is in: ids, counts, sizes; None is left out."""
    if _tracer is not None:
        _current().set_attributes(_named(attributes))


def ended(state: str, code: str) -> None:
    """Note how the run ended that this thread's span is of, and the code of its error."""
    if _tracer is not None:
        _current().set_attribute(f"{_PREFIX}state", state)
        if code:
            _fail(_current(), code)


def begin(stage: str) -> Any:
    """Begin a stage of this thread's span; give what is returned to `end`."""
    return None if _tracer is None else _tracer.start_span(stage)


def end(stage: Any) -> None:
    """End a stage."""
    if stage is not None:
        stage.end()


def context() -> Any:
    """Return what `shared` needs to go on with this thread's span in another thread."""
    if _tracer is None:
        return None
    from opentelemetry.context import get_current

    return get_current()


def shared(name: str, parts: Iterable[tuple[Any, int]]) -> AbstractContextManager[None]:
    """Make a block a span of each of the runs whose work it does at once.

    Args:
        name: of the spans.
        parts: of each run its `context` and how many points of it there are.
    """
    return OFF if _tracer is None else _shared(name, parts)


@contextmanager
def _span(name: str, parent: str, kind: str, attributes: dict[str, Any]) -> Iterator[None]:
    from opentelemetry.trace import SpanKind

    above = _propagator().extract({"traceparent": parent}) if parent else None
    current = _tracer.start_as_current_span(
        name,
        context=above,
        kind=SpanKind[kind],
        attributes=_named(attributes),
        record_exception=False,  # its text may hold a file's name
        set_status_on_exception=False,
    )
    with current as made, _failing(made):
        yield


@contextmanager
def _shared(name: str, parts: Iterable[tuple[Any, int]]) -> Iterator[None]:
    with ExitStack() as stack:
        for above, points in parts:
            if above is not None:
                made = _tracer.start_span(name, context=above, attributes=_named({"points": points}))
                stack.callback(made.end)
                stack.enter_context(_failing(made))
        yield


@contextmanager
def _failing(made: Any) -> Iterator[None]:
    """Note on a span with which code the block fails."""
    try:
        yield
    except Exception as error:
        _fail(made, error.code if isinstance(error, FleetError) else FleetError.default_code)
        raise


def _fail(made: Any, code: str) -> None:
    from opentelemetry.trace import StatusCode

    made.set_attribute("error.type", code)
    made.set_status(StatusCode.ERROR, code)


def _named(attributes: dict[str, Any]) -> dict[str, Any]:
    return {f"{_PREFIX}{name}": value for name, value in attributes.items() if value is not None}


def _current() -> Any:
    from opentelemetry.trace import get_current_span

    return get_current_span()


def _propagator() -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator()


def _send_at_the_end(provider: Any) -> None:
    """Send what is left when the process ends; a collector that is away would hold it up for 30 s.

    The thread is there before: since Python 3.12 none can be started at the end.
    """
    asked = threading.Event()

    def send() -> None:
        asked.wait()
        provider.shutdown()

    sender = threading.Thread(target=send, name="traces", daemon=True)
    sender.start()

    def end_in_time() -> None:
        asked.set()
        sender.join(SEND_SECONDS)

    atexit.register(end_in_time)


def _exporter(name: str) -> Any:
    if name == "console":
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()
