"""Find a model's files on this machine: a folder of the user's, or the cache.

No network, no numpy, no runtime: the document worker locates the tokenizer with this too.
"""

import logging
import re
from pathlib import Path

from embedfleet.contracts.errors import ConfigurationError
from embedfleet.encoders.files import ModelFiles, inspect
from embedfleet.encoders.manifest import MANIFEST, check, damaged, file_sha256, read_manifest
from embedfleet.encoders.registry import KNOWN, Backend, KnownModel
from embedfleet.runtime.settings import ModelSettings

_log = logging.getLogger(__name__)

MODEL_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
FOLDER = re.compile(r"[0-9a-f]{40}(-torch)?")


def locate(settings: ModelSettings, backend: Backend | None = None) -> ModelFiles:
    """Return the model's files without touching the network.

    Args:
        settings: which model, and where to look.
        backend: whose files are needed; None where the tokenizer is enough.

    Raises:
        ConfigurationError: not there (`model_missing`) or not usable (`model_damaged`).
    """
    if settings.model_path is not None:
        folder = settings.model_path.expanduser()
        if not folder.is_dir():
            raise ConfigurationError(f"FLEET_MODEL_PATH {folder} is not a folder", code="model_missing")
        _warn_of_another_name(folder, settings)
        return _fit(inspect(folder, settings.model_id), backend)
    backends: tuple[Backend, ...] = (backend,) if backend else ("onnx", "torch")
    for wanted in backends:
        found = _cached(settings, wanted)
        if found is not None:
            return _fit(inspect(found, settings.model_id), backend)
    raise ConfigurationError(
        f"the model {settings.model_id} is not in {home(settings)}; run `embedfleet models fetch`"
        + (" --backend torch" if backend == "torch" else ""),
        code="model_missing",
    )


def chunk_tokens(files: ModelFiles) -> int:
    """Return how many tokens a chunk may have, special tokens included: the model's, less its prefix.

    Raises:
        ConfigurationError: the tokenizer can't be read, or the prefix takes all room (`model_damaged`).
    """
    if not files.passage_prefix:
        return files.max_tokens
    # Loaded only where it is needed: the document worker has no other use for the library.
    from embedfleet.encoders.tokenizer import TextTokenizer

    # One to spare: where prefix and text meet, the tokenizer may cut otherwise than in each alone.
    room = files.max_tokens - len(TextTokenizer(files).offsets(files.passage_prefix)) - 1
    if room < files.max_tokens // 2:
        raise damaged(files.folder, "its passage prefix takes more than half of a chunk's tokens")
    return room


def verify(files: ModelFiles) -> int:
    """Compare every file with its recorded sha256; return how many there are.

    0 is a folder of the user's own without a manifest: there is nothing to compare with.

    Raises:
        ConfigurationError: a file is missing or differs (`model_damaged`).
    """
    return check(files.folder, hashes=True)


def cached(cache: Path) -> list[Path]:
    """Return the complete model folders of a cache, sorted."""
    return sorted(
        folder
        for folder in cache.expanduser().glob("*/*")
        if FOLDER.fullmatch(folder.name) and (folder / MANIFEST).is_file()
    )


def home(settings: ModelSettings) -> Path:
    """Return the folder of the cache that holds a model's revisions.

    Raises:
        ConfigurationError: the id is not one of a model on the hub.
    """
    if not MODEL_ID.fullmatch(settings.model_id):
        raise ConfigurationError(
            f"FLEET_MODEL_ID {settings.model_id!r} is not a hub id like `organisation/model`; "
            "a folder goes into FLEET_MODEL_PATH"
        )
    return settings.model_cache.expanduser() / settings.model_id.replace("/", "--")


def known(settings: ModelSettings) -> KnownModel | None:
    """Return the pins of the wanted model and revision, or None where there are none."""
    model = KNOWN.get(settings.model_id)
    return model if model and settings.model_revision in ("", model.revision) else None


def folder_name(revision: str, backend: Backend) -> str:
    """Return the name of a revision's folder for a backend."""
    return revision if backend == "onnx" else f"{revision}-torch"


def _cached(settings: ModelSettings, backend: Backend) -> Path | None:
    model = known(settings)
    revision = settings.model_revision or (model.revision if model else "")
    if revision:
        folder = home(settings) / folder_name(revision, backend)
        return folder if (folder / MANIFEST).is_file() else None
    suffix = folder_name("", backend)
    here = [folder for folder in cached(home(settings).parent) if folder.parent == home(settings)]
    fits = [folder for folder in here if folder.name[40:] == suffix]
    if len(fits) > 1:
        names = ", ".join(folder.name[:40] for folder in fits)
        raise ConfigurationError(
            f"the cache holds several revisions of {settings.model_id}; "
            f"set FLEET_MODEL_REVISION to one of {names}"
        )
    return fits[0] if fits else None


def _warn_of_another_name(folder: Path, settings: ModelSettings) -> None:
    """Warn where the folder's own name overrides the user's, or one without a name is given a wrong one."""
    model_id, manifest = settings.model_id, read_manifest(folder)
    if manifest:
        if "model_id" in settings.model_fields_set and model_id != manifest.model_id:
            _log.warning(
                "FLEET_MODEL_ID %s is not used: the manifest in FLEET_MODEL_PATH %s names its model %s",
                model_id,
                folder,
                manifest.model_id,
            )
        return
    model, config = KNOWN.get(model_id), folder / "config.json"
    if model is None or not config.is_file():
        return
    if file_sha256(config) != model.pins["config.json"].sha256:
        _log.warning(
            "FLEET_MODEL_PATH %s is taken for %s, whose config.json is another: set FLEET_MODEL_ID to the "
            "folder's own model, for the api and both pools; its prefixes are chosen by that name",
            folder,
            model_id,
        )


def _fit(files: ModelFiles, backend: Backend | None) -> ModelFiles:
    if backend == "onnx" and files.onnx is None:
        raise damaged(files.folder, "onnx/model.onnx is missing")
    if backend == "torch" and files.weights is None:
        raise damaged(files.folder, "model.safetensors is missing")
    return files
