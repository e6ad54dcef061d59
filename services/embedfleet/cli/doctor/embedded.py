"""Whether search can find what is stored: it leaves out what another model than the fleet's has embedded."""

from contextlib import closing

from embedfleet.contracts.errors import FleetError
from embedfleet.runtime.settings import BrokerSettings, LedgerSettings, VectorSettings

SECONDS = 5
FIX = "search leaves them out: `embedfleet fsck --repair`, or give the fleet the model from before"


def other_models(broker_url: str, qdrant_url: str) -> tuple[str, str] | None:
    """Say which model the fleet serves with, and which collection holds what another embedded; then the fix.

    Returns:
        None when it can't be told: something is down or not installed, or no api has served yet.
    """
    try:
        from embedfleet.runtime.ledger.audit import LedgerAudit
        from embedfleet.vectors.audit import PointAudit
    except ModuleNotFoundError:
        return None
    ledger = LedgerAudit.open(
        BrokerSettings(broker_url=broker_url), LedgerSettings(), timeout=SECONDS, retries=0
    )
    try:
        model = ledger.served().model_key
        if not model:
            return None
        with closing(PointAudit(VectorSettings(url=qdrant_url, timeout=SECONDS))) as store:
            for name in store.collections():
                if "__" in name and (count := store.count_of_others(name, model)):
                    return f"{count} points of {name} were embedded by another model than {model}", FIX
    except FleetError:
        return None
    return f"all were embedded by {model}", ""
