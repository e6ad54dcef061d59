"""The one truth about tasks and documents, in Redis: records, edges, views, and their mirror for Celery."""

from embedfleet.runtime.ledger.edges import Ledger

__all__ = ["Ledger"]
