"""The one truth about tasks and documents, in Redis: records, edges, views, and their mirror for Celery."""

from embedfleet.runtime.ledger.edges import BACKLOG, Ledger

__all__ = ["BACKLOG", "Ledger"]
