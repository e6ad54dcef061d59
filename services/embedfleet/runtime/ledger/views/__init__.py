"""What may be read of the ledger."""

from embedfleet.runtime.ledger.views.lists import Page, Place
from embedfleet.runtime.ledger.views.views import PASSES, REBUILT, SETTLE_AGAIN, TO_SETTLE, LedgerViews

__all__ = ["PASSES", "REBUILT", "SETTLE_AGAIN", "TO_SETTLE", "LedgerViews", "Page", "Place"]
