"""`embedfleet fsck`: ledger, blobs and Qdrant checked against each other, and repaired."""

import os
import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from embedfleet.cli.output import emit, on_terminal, plain, sentence, stderr, stdout
from embedfleet.cli.places import known_places, missing
from embedfleet.contracts.errors import ConfigurationError, DependencyDown
from embedfleet.local.datadir import DataDir
from embedfleet.runtime.settings import ClientSettings

if TYPE_CHECKING:
    from embedfleet.fsck.course import Fsck
    from embedfleet.fsck.findings import Finding, Scope, Tally

CANT_RUN = 2
REASONS = 1000


def fsck(
    repair: Annotated[bool, typer.Option("--repair", help="Repair what is found, then check again.")] = False,
    tenant: Annotated[str, typer.Option(help="Only what is of this tenant.")] = "",
    collection: Annotated[str, typer.Option(help="Only documents of this collection.")] = "",
    examples: Annotated[int, typer.Option(min=1, help="Findings of a kind that are shown.")] = 20,
    orphans: Annotated[
        bool, typer.Option("--orphans", help="Repair though most of Qdrant is unknown to the ledger.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="JSON lines, on a terminal, too.")] = False,
) -> None:
    """Check that ledger, blobs and Qdrant agree; exit code 0: they do, 1: not all, 2: it can't be told.

    It may run beside a working fleet: what is in work or has just changed is no finding. Without --repair it
    changes nothing. It talks to Redis, Qdrant and the blobs themselves: to those of CELERY_BROKER_URL,
    QDRANT_URL and FLEET_BLOB_URL, or, when none of these is set, of the fleet that runs in FLEET_DATA_DIR.
    """
    if orphans and not repair:
        raise typer.BadParameter("--orphans goes with --repair")
    _place_variables()
    try:
        from embedfleet.fsck.course import Fsck
        from embedfleet.fsck.findings import Scope
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"{error.name} is not installed: pip install 'embedfleet[local]'") from error
    checked = Fsck.open()
    shown = Shown(checked.places, as_json=json or not on_terminal(), examples=examples)
    try:
        left = _run(checked, Scope(tenant, collection), shown, repair=repair, orphans=orphans)
    except DependencyDown as error:
        raise _cant_check(sentence(error)) from error
    if left.counts:
        raise typer.Exit(1)


def _place_variables() -> None:
    """Point the variables at the fleet that runs in the data folder, unless they are set.

    Raises:
        typer.Exit: some are set and others not, or none and no fleet runs there.
    """
    data = DataDir(ClientSettings().data_dir)
    known = known_places(data, data.running())
    if problem := missing(known, data):
        raise _cant_check(problem)
    os.environ.update(known)


def _cant_check(reason: str) -> typer.Exit:
    """Say why nothing is checked, and return what ends the command."""
    stderr().print(f"embedfleet: can't check: {plain(reason)}", soft_wrap=True)
    return typer.Exit(CANT_RUN)


class Shown:
    """Prints findings: the first few of each kind as they come, then how many there are.

    Args:
        places: where is looked, by what is kept there; without credentials.
        as_json: JSON lines, for machines.
        examples: how many of a kind are printed.
    """

    def __init__(self, places: Mapping[str, str], *, as_json: bool, examples: int) -> None:
        self.places = places
        self.as_json = as_json
        self.examples = examples
        self.repaired: Counter[str] = Counter()
        self.renewed = 0
        self.model_key = self.not_repaired = ""
        self._reasons: dict[Finding, str] = {}

    def header(self) -> None:
        """Print for people where is looked, before anything is done; machines read it in the summary."""
        if not self.as_json:
            line = "ledger {ledger}, blobs {blobs}, Qdrant {qdrant}".format_map(self.places)
            model = f"\nmodel {self.model_key}" if self.model_key else ""
            stdout().print(plain(line + model), soft_wrap=True)

    def told(self, finding: "Finding", done: str, is_repaired: bool) -> None:
        """Take note of a repair, and print it if it is one of the first of its kind."""
        from embedfleet.fsck.repair import RENEWED

        if not is_repaired:
            if len(self._reasons) < REASONS:
                self._reasons[finding] = done
            return
        self.renewed += done == RENEWED
        self.repaired[finding.kind] += 1
        if self.repaired[finding.kind] <= self.examples:
            self._line(finding, {"repaired": True, "repair": done})

    def found(self, finding: "Finding") -> None:
        """Print a finding, and why it is not repaired if that was tried."""
        reason = self._reasons.get(finding)
        self._line(finding, {"repaired": False, "repair": reason} if reason else {})

    def summary(self, left: "Tally", documents: int, seconds: float) -> None:
        """Print what there is of each kind, and how much was looked at."""
        if self.as_json:
            emit(
                {
                    "summary": {str(kind): count for kind, count in sorted(left.counts.items())},
                    "repaired": dict(sorted(self.repaired.items())),
                    "documents": documents,
                    "in_work_again": self.renewed,
                    "seconds": round(seconds, 1),
                    **self.places,
                    "model": self.model_key,
                    **({"not_repaired": self.not_repaired} if self.not_repaired else {}),
                }
            )
            return
        self._table(left)
        if self.not_repaired:
            stdout().print(f"nothing is repaired: {self.not_repaired}", soft_wrap=True)
        if self.renewed:
            stdout().print(f"in work again: {self.renewed} (`embedfleet status` shows them)")
        count, agrees = left.counts.total(), "all else agrees" if self.renewed else "everything agrees"
        verdict = f"findings: {count}" if count else agrees
        stdout().print(f"{verdict}; documents looked at: {documents}, in {seconds:.1f} s")

    def _table(self, left: "Tally") -> None:
        from embedfleet.fsck.findings import MEANINGS

        if not left.counts:
            return
        table = Table("kind", "findings", "what it is", "repair")
        for kind, count in sorted(left.counts.items()):
            table.add_row(kind, str(count), *MEANINGS[kind])
        stdout().print(table)

    def _line(self, finding: "Finding", more: dict[str, object]) -> None:
        if self.as_json:
            emit(finding.as_dict() | more)
            return
        place = finding.subject or (f"generation {finding.generation}" if finding.generation else "")
        parts = [finding.kind, finding.document_id or finding.task_id, place, finding.detail]
        done = f" → {more['repair']}" if more else ""
        stdout().print(plain("  ".join(part for part in parts if part) + done), soft_wrap=True)


def _run(checked: "Fsck", scope: "Scope", shown: Shown, *, repair: bool, orphans: bool) -> "Tally":
    """Check, and repair before that if it is wished; return what is left."""
    from embedfleet.fsck.findings import Tally

    started = time.monotonic()
    shown.model_key = checked.ledger.served().model_key
    shown.header()
    if repair and not orphans:
        shown.not_repaired = checked.obstacle(scope)
    if repair and not shown.not_repaired:
        from embedfleet.runtime import broker

        checked.repair(scope, time.sleep, broker.publish, shown.told)
    left = Tally(shown.examples)
    inspection = checked.inspection(scope, shown.model_key, time.sleep)
    for finding in inspection.findings():
        if left.add(finding):
            shown.found(finding)
    shown.summary(left, inspection.documents, time.monotonic() - started)
    return left
