"""The course of a check, and of a repair: look, repair what was found, look again."""

from collections.abc import Callable
from typing import Self

from embedfleet.contracts.errors import DependencyDown, FleetError
from embedfleet.contracts.jobs import Job
from embedfleet.fsck.findings import Finding, Patience, Scope
from embedfleet.fsck.inspection import Inspection
from embedfleet.fsck.repair import Repair
from embedfleet.janitor import Janitor
from embedfleet.runtime.blobs import Blobs, open_blobs
from embedfleet.runtime.intake import Intake
from embedfleet.runtime.ledger.audit import LedgerAudit
from embedfleet.runtime.settings import BrokerSettings, LedgerSettings, VectorSettings, load
from embedfleet.vectors.audit import PointAudit

# A repair may bring to light what it hid: points of a document that had no row.
ROUNDS = 3

Wait = Callable[[float], object]
Told = Callable[[Finding, str, bool], object]


class Fsck:
    """Checks and repairs one fleet.

    Args:
        ledger: Redis.
        blobs: where files are.
        store: Qdrant.
        settings: leases of the fleet.
        patience: how long something may look wrong; by default what fits the leases.
    """

    def __init__(
        self,
        ledger: LedgerAudit,
        blobs: Blobs,
        store: PointAudit,
        settings: LedgerSettings,
        patience: Patience | None = None,
    ) -> None:
        self.ledger, self.blobs, self.store = ledger, blobs, store
        self._settings = settings
        self._patience = patience or Patience.of_lease(settings.lease_seconds)

    @classmethod
    def open(cls) -> Self:
        """Make one from the environment; nothing is called yet."""
        settings = load(LedgerSettings)
        ledger = LedgerAudit.open(load(BrokerSettings), settings)
        return cls(ledger, open_blobs(), PointAudit(load(VectorSettings)), settings)

    @property
    def places(self) -> dict[str, str]:
        """Where the three are that are compared, without credentials."""
        return {
            "ledger": self.ledger.address,
            "blobs": self.blobs.address,
            "qdrant": self.store.address,
        }

    def inspection(self, scope: Scope, model_key: str, wait: Wait) -> Inspection:
        """Return one look at everything in a scope."""
        return Inspection(self.ledger, self.blobs, self.store, scope, self._patience, model_key, wait)

    def obstacle(self, scope: Scope) -> str:
        """Return why a repair of this scope might harm another fleet, and what to do; empty: it doesn't.

        Raises:
            DependencyDown: Redis, Qdrant or the blobs can't be reached.
        """
        held = self.inspection(scope, "", lambda seconds: None).holdings()
        if not held.are_others:
            return ""
        return (
            f"Qdrant holds {held.strange} documents that this ledger doesn't know, or knows otherwise, and "
            f"{held.recognised} that it does: are these the ledger and the Qdrant of one fleet? If they are, "
            "--repair --orphans removes the former"
        )

    def repair(self, scope: Scope, wait: Wait, publish: Callable[[list[Job]], None], told: Told) -> None:
        """Repair what is found, and look again while that may have brought more to light.

        Whatever is unknown to the ledger is removed: `obstacle` says when that is too much.

        Args:
            scope: what is looked at.
            wait: waits some seconds.
            publish: sends wake-up calls.
            told: hears of each finding what was done, and whether it was repaired.

        Raises:
            DependencyDown: Redis, Qdrant or the blobs can't be reached; what was repaired stays so.
        """
        fleet = self.ledger.served()
        repair = Repair(
            self.ledger,
            self.blobs,
            self.store,
            Janitor(self.ledger, self.blobs, self.store, publish, self._settings),
            Intake(self.ledger, self.blobs, publish),
            fleet.model_key,
            fleet.dim,
        )
        for _ in range(ROUNDS):
            any_repaired = False
            for finding in self.inspection(scope, fleet.model_key, wait).findings():
                done, is_repaired = _tried(repair, finding)
                any_repaired |= is_repaired
                told(finding, done, is_repaired)
            if not any_repaired:
                return


def _tried(repair: Repair, finding: Finding) -> tuple[str, bool]:
    """Repair a finding; return what was done or why not, and whether it was."""
    try:
        return repair.repair(finding), True
    except DependencyDown:
        raise
    except FleetError as error:
        return error.detail, False
