"""`embedfleet rm`: delete a document, or all of a collection."""

import sys
from typing import Annotated

import typer

from embedfleet.cli.client import connect
from embedfleet.cli.output import emit, on_terminal, plain, stdout
from embedfleet.cli.status import path_part


def remove(
    document_id: Annotated[str | None, typer.Argument(metavar="[DOCUMENT_ID]")] = None,
    collection: Annotated[str | None, typer.Option(help="Delete all documents of this collection.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask; needed in a script.")] = False,
    url: Annotated[str, typer.Option(help="The API's address.")] = "",
) -> None:
    """Delete a document, or all documents of a collection: points and files, too."""
    if bool(document_id) == bool(collection):
        raise typer.BadParameter("give a document's id, or --collection NAME")
    if document_id:
        path, what = f"/documents/{path_part(document_id)}", f"document {document_id}"
    else:
        path, what = f"/collections/{path_part(collection or '')}", f"all documents of {collection}"
    if not yes:
        _confirm(what)
    with connect(url) as client:
        answer = client.delete(path)
    if on_terminal():
        stdout().print(plain(answer.get("message", "deleted")))
    else:
        emit(answer)


def _confirm(what: str) -> None:
    """Ask on a terminal.

    Raises:
        typer.BadParameter: nobody can be asked.
        typer.Abort: the answer is no.
    """
    if not (sys.stdin.isatty() and on_terminal()):
        raise typer.BadParameter("this can't be undone: without a terminal to ask on, give --yes")
    typer.confirm(f"Delete {what}? This can't be undone.", abort=True)
