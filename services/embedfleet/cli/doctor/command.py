"""`embedfleet doctor`: what is wrong on this machine, and the fix."""

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from embedfleet.cli.client import find_url
from embedfleet.cli.doctor.checks import Finding, Place, examine
from embedfleet.cli.output import emit, on_terminal, plain, stdout
from embedfleet.local.datadir import DataDir
from embedfleet.runtime.settings import ClientSettings


def doctor(
    url: Annotated[str, typer.Option(help="The API's address.")] = "",
    data_dir: Annotated[
        Path | None, typer.Option(file_okay=False, help="The fleet's folder: FLEET_DATA_DIR unless given.")
    ] = None,
) -> None:
    """Check Python, API, Redis, Qdrant, model, encoder and disk; exit code 1 if something is wrong.

    Looks where CELERY_BROKER_URL, QDRANT_URL and FLEET_BLOB_URL point; when none is set, at the fleet here.
    """
    data = DataDir(data_dir or ClientSettings().data_dir)
    findings = []
    for finding in examine(Place(data, data.running(), find_url(url, data))):
        findings.append(finding)
        _show(finding)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def _show(finding: Finding) -> None:
    """Print one line, as soon as it is known."""
    if not on_terminal():
        emit({"check": finding.name, "ok": finding.ok, "detail": finding.detail, "fix": finding.fix})
        return
    mark = Text("ok      ", style="green") if finding.ok else Text("problem ", style="bold red")
    fix = f"\n        fix: {finding.fix}" if finding.fix else ""
    stdout().print(mark, plain(f"{finding.name}: {finding.detail}{fix}"), sep="", soft_wrap=True)
