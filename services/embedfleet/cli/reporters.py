"""How an ingest shows its progress: bars on a terminal, JSON lines in a pipe."""

from collections.abc import Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from embedfleet.cli.ingestion import Outcome, Seen
from embedfleet.cli.output import emit, plain
from embedfleet.cli.sources import Source


class Lines:
    """One JSON line an event."""

    def uploading(self, source: Source) -> None:
        """Print that an upload begins."""
        emit({"event": "uploading", "file": source.label, "document_key": source.key})

    def progressed(self, source: Source, seen: Seen) -> None:
        """Print where a document is."""
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
        mark = "✓" if outcome.is_ready else "✗"
        what = f"{outcome.chunks} chunks" if outcome.is_ready else outcome.state
        self._progress.console.print(f"{mark} {plain(source.key)}  {what}  {outcome.seconds:.1f} s")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


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
