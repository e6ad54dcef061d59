"""`embedfleet search`: what the documents say."""

from typing import Annotated, Any

import typer
from rich.text import Text

from embedfleet.cli.client import connect
from embedfleet.cli.output import emit, on_terminal, plain, stderr, stdout

SHOWN_CHARACTERS = 400


def search(
    query: Annotated[str, typer.Argument(help="A question or some words.")],
    collection: Annotated[str, typer.Option(help="The collection to search.")],
    limit: Annotated[int, typer.Option(min=1, max=100, help="Hits at most.")] = 5,
    document: Annotated[list[str] | None, typer.Option(help="Only these document ids.")] = None,
    url: Annotated[str, typer.Option(help="The API's address.")] = "",
) -> None:
    """Print the chunks that fit best, best first; one JSON object a hit in a pipe."""
    body: dict[str, Any] = {"collection": collection, "query": query, "limit": limit}
    if document:
        body["filter"] = {"document_ids": document}
    with connect(url) as client:
        hits = client.post("/search", body).get("hits", [])
    for number, hit in enumerate(hits, 1):
        if on_terminal():
            _show(number, hit)
        else:
            emit(hit)
    if not hits:
        stderr().print("no hits")


def _show(number: int, hit: dict[str, Any]) -> None:
    """Print a hit for people."""
    place = [f"page {hit['page']}"] if hit.get("page") else []
    place += [plain(hit["heading"])] if hit.get("heading") else []
    head = f"{number}. {plain(hit.get('filename', ''))}"
    where = f"  {', '.join(place)}" if place else ""
    stdout().print(Text(head, style="bold"), Text(f"{where}  {hit.get('score', 0):.3f}", style="dim"), sep="")
    text = " ".join(plain(hit.get("text", "")).split())
    stdout().print(text[:SHOWN_CHARACTERS] + ("…" if len(text) > SHOWN_CHARACTERS else "") + "\n")
