"""A Celery worker that does nothing, on the fleet's settings: ``celery -A benchmarks.ledger.bare worker``."""

from typing import Any

from embedfleet.runtime.broker import create_app
from embedfleet.runtime.settings import BrokerSettings, LedgerSettings, load

TASK = "bench.noop"

app = create_app(load(BrokerSettings), load(LedgerSettings))


@app.task(name=TASK)  # type: ignore[untyped-decorator]  # celery has no types
def noop(**_message: Any) -> None:
    """Do nothing."""
