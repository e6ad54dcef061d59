"""The folder of one model: what its files say, and the manifest that pins them.

Standard library and pydantic only: the document worker reads `ModelFiles` too.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ValidationError, field_validator

from embedfleet.contracts.errors import ConfigurationError
from embedfleet.encoders.registry import (
    CONFIG_FILES,
    ONNX_FILE,
    PROMPTS_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
)

Pooling = Literal["mean", "cls"]
Source = Literal["hub", "pypi", "export"]

MANIFEST = "manifest.json"
MAX_JSON_BYTES = 1_000_000
READ_BYTES = 1 << 20
ONNX_FILES = (ONNX_FILE, "model.onnx")


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


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """One model on disk, and what its own files say of it.

    Attributes:
        folder: where the files are.
        model_id: name on the hub.
        revision: commit on the hub; for a folder without a manifest, a hash of its content.
        dim: length of a vector.
        max_tokens: longest input, special tokens included; what is longer is cut.
        pooling: how token vectors become one.
        normalize: whether the model itself normalises (the encoders always do).
        query_prefix: text put before a query.
        passage_prefix: text put before a chunk.
        pad_id: token id that fills the rows of a batch; masked, so it changes no vector.
        tokenizer: the tokenizer's file.
        onnx: the ONNX graph, or None.
        weights: the safetensors checkpoint, or None.
    """

    folder: Path
    model_id: str
    revision: str
    dim: int
    max_tokens: int
    pooling: Pooling
    normalize: bool
    query_prefix: str
    passage_prefix: str
    pad_id: int
    tokenizer: Path
    onnx: Path | None
    weights: Path | None

    @property
    def model_key(self) -> str:
        """Return what vectors must share to be comparable: model, revision, pooling, prefix."""
        return f"{self.model_id}@{self.revision}:{self.pooling}:{self.passage_prefix}"


def damaged(folder: Path, reason: str) -> ConfigurationError:
    """Return the error for a model folder that can't be used as it is."""
    return ConfigurationError(
        f"the model in {folder} can't be used: {reason}. "
        "`embedfleet models fetch --force` gets a fetched model anew; a folder of your own "
        "(FLEET_MODEL_PATH) must hold a sentence-transformers model with onnx/model.onnx",
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


def inspect(folder: Path, model_id: str) -> ModelFiles:
    """Read what a model folder says of itself.

    Args:
        folder: a fetched folder, or one of the user's own.
        model_id: name for a folder that has no manifest.

    Raises:
        ConfigurationError: a file is missing or broken, or the model needs what the encoders
            don't do (another pooling, a dense layer): its vectors would be silently wrong.
    """
    check(folder, hashes=False)
    config = _object(folder, "config.json")
    dim, pooling = _pooling(folder)
    if config.get("hidden_size") != dim:
        raise damaged(folder, f"config.json says {config.get('hidden_size')} dimensions, 1_Pooling {dim}")
    max_tokens = _positive(folder, "sentence_bert_config.json", "max_seq_length")
    if max_tokens > _positive(folder, "config.json", "max_position_embeddings"):
        raise damaged(folder, "max_seq_length is above the model's positions")
    if not (folder / TOKENIZER_FILE).is_file():
        raise damaged(folder, f"{TOKENIZER_FILE} is missing")
    manifest = read_manifest(folder)
    prompts = _object(folder, PROMPTS_FILE).get("prompts") if (folder / PROMPTS_FILE).is_file() else None
    prompts = prompts if isinstance(prompts, dict) else {}
    return ModelFiles(
        folder=folder,
        model_id=manifest.model_id if manifest else model_id,
        revision=manifest.revision if manifest else _content_revision(folder),
        dim=dim,
        max_tokens=max_tokens,
        pooling=pooling,
        normalize=_normalizes(folder),
        query_prefix=str(prompts.get("query", "")),
        passage_prefix=str(prompts.get("document", prompts.get("passage", ""))),
        pad_id=config["pad_token_id"] if isinstance(config.get("pad_token_id"), int) else 0,
        tokenizer=folder / TOKENIZER_FILE,
        onnx=next((folder / name for name in ONNX_FILES if (folder / name).is_file()), None),
        weights=folder / WEIGHTS_FILE if (folder / WEIGHTS_FILE).is_file() else None,
    )


def _pooling(folder: Path) -> tuple[int, Pooling]:
    config = _object(folder, "1_Pooling/config.json")
    flags = [name for name, on in config.items() if name.startswith("pooling_mode_") and on]
    modes = {name.removeprefix("pooling_mode_") for name in flags}
    dim = _positive(folder, "1_Pooling/config.json", "word_embedding_dimension")
    if modes == {"mean_tokens"}:
        return dim, "mean"
    if modes == {"cls_token"}:
        return dim, "cls"
    raise damaged(folder, f"its pooling ({', '.join(sorted(modes)) or 'none'}) is not `mean` or `cls`")


def _normalizes(folder: Path) -> bool:
    modules = _json(folder, "modules.json")
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise damaged(folder, "modules.json is not a list of modules")
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
        raise damaged(folder, f"its modules ({', '.join(kinds)}) are not Transformer, Pooling[, Normalize]")
    return "Normalize" in kinds


def _positive(folder: Path, name: str, key: str) -> int:
    value = _object(folder, name).get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise damaged(folder, f"{name} has no positive {key}")
    return value


def _object(folder: Path, name: str) -> dict[str, Any]:
    value = _json(folder, name)
    if not isinstance(value, dict):
        raise damaged(folder, f"{name} is not a JSON object")
    return value


def _json(folder: Path, name: str) -> Any:
    path = folder / name
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise damaged(folder, f"{name} is larger than {MAX_JSON_BYTES} bytes")
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise damaged(folder, f"{name} is missing") from error
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(folder, f"{name} is broken") from error


def _content_revision(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in (*CONFIG_FILES, TOKENIZER_FILE, PROMPTS_FILE, *ONNX_FILES, WEIGHTS_FILE):
        if (folder / name).is_file():
            digest.update(f"{name} {file_sha256(folder / name)}\n".encode())
    return f"content-{digest.hexdigest()[:16]}"
