"""The check of the ledger's own lists: leases, the janitor's appointments, the indexes."""

from collections.abc import Iterator, Sequence

from embedfleet.contracts.states import TERMINAL_TASK_STATES, TaskState
from embedfleet.fsck.findings import Finding, Kind, Scope
from embedfleet.runtime.ledger.audit import Entry, LedgerAudit
from embedfleet.runtime.ledger.views import SETTLE_AGAIN, TO_SETTLE


class ListCheck:
    """Finds entries that are out of step with the rows that they name.

    A task's entry and row are read in one transaction, so that no move of a task looks like a finding.
    """

    def __init__(self, ledger: LedgerAudit, scope: Scope) -> None:
        self._ledger, self._scope = ledger, scope

    def suspects(self) -> Iterator[Finding]:
        """Yield what looks wrong at first sight."""
        for key in self._ledger.task_lists():
            for task_ids in self._ledger.members(key):
                yield from self._tasks(key, task_ids)
        for key in self._ledger.document_lists():
            for document_ids in self._ledger.members(key):
                yield from self._documents(key, document_ids)
        for key in (TO_SETTLE, SETTLE_AGAIN):
            for members in self._ledger.members(key):
                yield from self._unsettled(key, members)

    def again(self, suspects: Sequence[Finding]) -> set[Finding]:
        """Return those that still look the same."""
        still: set[Finding] = set()
        for one in suspects:
            if one.task_id:
                still.update(self._tasks(one.subject, [one.task_id]))
            elif one.kind is Kind.UNSETTLED_STUCK:
                still.update(self._unsettled(one.subject, [f"{one.tenant}:{one.document_id}"]))
            elif self._ledger.is_listed(one.subject, one.document_id):
                still.update(self._documents(one.subject, [one.document_id]))
        return still

    def _tasks(self, key: str, task_ids: Sequence[str]) -> Iterator[Finding]:
        if not task_ids:
            return
        for entry in self._ledger.entries(key, task_ids):
            found = _judge(key, entry) if entry.is_there else None
            tenant = entry.tenant or (key.split(":")[2] if key.startswith("index:") else "")
            # Of an entry without a row nothing says whose it is.
            if found and (self._scope.is_whole or (self._scope.holds(tenant, "") and tenant)):
                kind, detail = found
                witness = (str(entry.state), str(entry.fence))
                yield Finding(kind, detail, tenant, subject=key, task_id=entry.task_id, witness=witness)

    def _documents(self, key: str, document_ids: Sequence[str]) -> Iterator[Finding]:
        _, _, tenant, *rest = key.split(":")
        collection = rest[0] if rest else ""
        if not document_ids or not self._scope.holds(tenant, collection):
            return
        for _, document_id in self._ledger.without_document([(tenant, each) for each in document_ids]):
            yield Finding(Kind.STALE_INDEX, "it has no row", tenant, collection, document_id, subject=key)

    def _unsettled(self, key: str, members: Sequence[str]) -> Iterator[Finding]:
        names = [
            (tenant, document_id) for tenant, _, document_id in (each.partition(":") for each in members)
        ]
        for tenant, document_id in self._ledger.without_document(names) if names else ():
            if self._scope.holds(tenant, ""):
                yield Finding(
                    Kind.UNSETTLED_STUCK,
                    "it has no row",
                    tenant,
                    document_id=document_id,
                    subject=key,
                )


def _judge(key: str, entry: Entry) -> tuple[Kind, str] | None:
    """Say what is wrong with a task's entry in a list."""
    state = entry.state
    has_ended = state is None or state in TERMINAL_TASK_STATES
    shown = f"its task is {state}" if state else "its task has no row"
    if key == "due" or key.startswith("waiting:"):
        return (Kind.STALE_DUE, shown) if has_ended else None
    if key.startswith("leases:"):
        return (Kind.STALE_LEASE, shown) if state is not TaskState.STARTED else None
    if state is None or state != key.rsplit(":", 1)[1]:
        return Kind.STALE_INDEX, shown
    return None if entry.is_watched else (Kind.TASK_UNWATCHED, f"it is {state} and in no list of the janitor")
