"""How an ingest shows its progress: bars on a terminal, JSON lines in a pipe."""

from collections.abc import Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from embedfleet.cli.ingest.ingestion import UNCHANGED, Outcome, Seen
from embedfleet.cli.ingest.sources import Source
from embedfleet.cli.output import emit, plain


class Lines:
    """One JSON line an event.

    Args:
        verbose: print uploads and steps, too, not only how each file ended.
    """

    def __init__(self, verbose: bool) -> None:
        self._verbose = verbose

    def uploading(self, source: Source) -> None:
        """Print that an upload begins."""
        if self._verbose:
            emit({"event": "uploading", "file": source.label, "document_key": source.key})

    def progressed(self, source: Source, seen: Seen) -> None:
        """Print where a document is."""
        if self._verbose:
            emit({"event": "progress", "file": source.label, **asdict(seen)})

    def finished(self, source: Source, outcome: Outcome) -> None:
        """Print how a file ended."""
        emit(outcome.event())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class Bars:
    """One bar a file in work, one for all files; a file that ended becomes a line above them."""

    def __init__(self, console: Console, files: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[count]}", markup=False),
            TextColumn("{task.fields[state]}", markup=False),
            TimeElapsedColumn(),
            console=console,
        )
        self._files = files
        self._ended = 0
        self._all = self._progress.add_task("all files", total=files, count=f"0/{files}", state="")
        self._bars: dict[str, TaskID] = {}

    def uploading(self, source: Source) -> None:
        """Add the file's bar."""
        name = plain(source.key)
        shown = name if len(name) <= 40 else "…" + name[-39:]
        self._bars[source.key] = self._progress.add_task(shown, total=None, count="", state="uploading")

    def progressed(self, source: Source, seen: Seen) -> None:
        """Move the file's bar."""
        count = f"{seen.done}/{seen.total} chunks" if seen.total is not None else ""
        state = f"{seen.state.lower()} ({plain(seen.waits)})" if seen.waits else seen.state.lower()
        bar = self._bars[source.key]
        self._progress.update(bar, completed=seen.done, total=seen.total, count=count, state=state)

    def finished(self, source: Source, outcome: Outcome) -> None:
        """Replace the file's bar by a line."""
        self._progress.remove_task(self._bars.pop(source.key))
        self._ended += 1
        self._progress.update(self._all, completed=self._ended, count=f"{self._ended}/{self._files}")
        self._progress.console.print(_line(source, outcome))

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


def _line(source: Source, outcome: Outcome) -> str:
    """Return how a file ended; `=` marks what was ready before."""
    mark = "✗" if not outcome.is_ready else "=" if outcome.note == UNCHANGED else "✓"
    what = f"{outcome.chunks} chunks" if outcome.is_ready else outcome.state
    note = f"  ({outcome.note})" if outcome.note else ""
    return f"{mark} {plain(source.key)}  {what}  {outcome.seconds:.1f} s{note}"


def failures(outcomes: Sequence[Outcome]) -> Table:
    """Return the table of files that search won't find."""
    table = Table(title="Not ingested")
    for heading in ("file", "state", "code", "what happened"):
        table.add_column(heading, overflow="fold")
    for outcome in outcomes:
        error = outcome.error or {}
        cells = (outcome.file, outcome.state, error.get("code", ""), error.get("detail", ""))
        table.add_row(*map(plain, cells))
    return table
