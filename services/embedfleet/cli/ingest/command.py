"""`embedfleet ingest`: files and folders become searchable documents."""

import re
import time
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from embedfleet.cli.client import connect
from embedfleet.cli.ingest.ingestion import UNCHANGED, Ingestion, Outcome, upload_form
from embedfleet.cli.ingest.reporters import Bars, Lines, failures
from embedfleet.cli.ingest.sources import Selection, select
from embedfleet.cli.output import emit, on_terminal, plain, stderr, stdout
from embedfleet.contracts.documents import COLLECTION_PATTERN, ChunkerType, ChunkOptions
from embedfleet.contracts.errors import InvalidRequest

EXIT_INTERRUPTED = 130


def ingest(
    paths: Annotated[
        list[Path], typer.Argument(exists=True, help="Files and folders (.pdf .docx .txt .md).")
    ],
    collection: Annotated[str, typer.Option(help="The collection that takes them.")],
    url: Annotated[str, typer.Option(help="The API's address.")] = "",
    chunk_size: Annotated[int | None, typer.Option(help="Characters (or tokens) of a chunk.")] = None,
    chunk_overlap: Annotated[int | None, typer.Option(help="What neighbours share.")] = None,
    chunker: Annotated[ChunkerType | None, typer.Option(help="How documents are cut.")] = None,
    metadata: Annotated[str | None, typer.Option(help="JSON object kept with every document.")] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for a document.")] = 3600,
    verbose: Annotated[bool, typer.Option("--verbose", help="In a pipe: uploads and steps, too.")] = False,
) -> None:
    """Upload files and folders (.pdf .docx .txt .md) and wait until search finds them.

    The API key comes from FLEET_API_KEY. Exit code 0: all are READY, 1: some are not, 2: wrong use.
    """
    form = _form(collection, chunk_size, chunk_overlap, chunker, metadata)
    try:
        selection = select(paths)
    except InvalidRequest as error:
        raise typer.BadParameter(error.detail, param_hint="PATHS") from error
    _show_skipped(selection)
    if not selection.sources:
        raise typer.BadParameter("no .pdf, .docx, .txt or .md file in there", param_hint="PATHS")
    with connect(url) as client:
        client.text("/livez")
    began = time.monotonic()
    reporter = Bars(stdout(), len(selection.sources)) if on_terminal() else Lines(verbose)
    try:
        with connect(url) as client, reporter:
            outcomes = Ingestion(client, form, timeout, reporter).run(selection.sources)
    except KeyboardInterrupt:
        stderr().print("interrupted; what was uploaded goes on in the fleet")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    _conclude(outcomes, len(selection.skipped), time.monotonic() - began)


def _form(
    collection: str, size: int | None, overlap: int | None, chunker: ChunkerType | None, metadata: str | None
) -> dict[str, str]:
    """Return the fields of the uploads, checked as far as it goes without the API."""
    if not re.fullmatch(COLLECTION_PATTERN, collection):
        raise typer.BadParameter(
            "letters, digits, - and _, at most 63, beginning with a letter or digit",
            param_hint="--collection",
        )
    given = {"chunk_size": size, "chunk_overlap": overlap, "chunker_type": chunker}
    try:
        ChunkOptions.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        raise typer.BadParameter(
            error.errors()[0]["msg"], param_hint="--chunk-size, --chunk-overlap"
        ) from error
    try:
        return upload_form(collection, size, overlap, chunker, metadata)
    except ValueError as error:
        raise typer.BadParameter(f"not a JSON object: {error}", param_hint="--metadata") from error


def _show_skipped(selection: Selection) -> None:
    for file, reason in selection.skipped:
        if on_terminal():
            stdout().print(f"- {plain(file)}  skipped: {reason}")
        else:
            emit({"event": "skipped", "file": file, "reason": reason})


def _conclude(outcomes: list[Outcome], skipped: int, seconds: float) -> None:
    """Print the sum and the failures; end with exit code 1 if there are any."""
    failed = [outcome for outcome in outcomes if not outcome.is_ready]
    ready, chunks = len(outcomes) - len(failed), sum(outcome.chunks for outcome in outcomes)
    unchanged = sum(outcome.is_ready and outcome.note == UNCHANGED for outcome in outcomes)
    if on_terminal():
        same = f" ({unchanged} of them unchanged)" if unchanged else ""
        stdout().print(
            f"{ready} ready{same}, {len(failed)} failed, {skipped} skipped; {chunks} chunks, {seconds:.1f} s"
        )
    else:
        sums = {"ready": ready, "unchanged": unchanged, "failed": len(failed), "skipped": skipped}
        emit({"event": "summary", **sums, "chunks": chunks, "seconds": round(seconds, 3)})
    if failed:
        stderr().print(failures(failed))
        raise typer.Exit(1)
