"""Logs: one JSON object a line, with the ids of the task that is being run."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypedDict

import structlog
from prometheus_client import disable_created_metrics

from embedfleet.runtime.settings import ProcessSettings

_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def configure(settings: ProcessSettings) -> None:
    """Send every log line, libraries' too, through one formatter to stderr, and set the metrics up."""
    last: list[structlog.typing.Processor]
    if settings.log_format == "json":
        last = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    else:
        last = [_console()]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for noisy in ("httpx", "httpcore", "urllib3", "celery.worker.strategy", "kombu"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It warns of every message that a draining worker gives back; what fails is logged by the worker.
    logging.getLogger("celery.app.trace").setLevel(logging.ERROR)
    # In text, the second of birth of each counter and histogram would be one more series, which nobody reads.
    disable_created_metrics()  # type: ignore[no-untyped-call]


def _console() -> structlog.dev.ConsoleRenderer:
    # The default shows local variables in traces, addresses with their passwords among them.
    plain = structlog.dev.plain_traceback
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)


class Ids(TypedDict):
    """What a run's log lines are about."""

    task_id: str
    document_id: str
    fence: int


def process_name() -> str:
    """Return a name of this process that is its own in the whole fleet."""
    return f"{os.uname().nodename}:{os.getpid()}"


@contextmanager
def about(ids: Ids) -> Iterator[None]:
    """Add these ids to every line that the block logs in this thread."""
    with structlog.contextvars.bound_contextvars(**ids):
        yield
