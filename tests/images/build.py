"""Builds the images from the Dockerfiles, over the pinned base or over one that is made here."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from embedfleet.encoders.models import locate
from embedfleet.runtime.settings import ModelSettings
from tests.deploy.chart import ROOT
from tests.deploy.dockerfiles import TARGETS, read
from tests.images.engine import Engine, Failed, Skipped, first

MADE_HERE = "localhost/embedfleet-base:bookworm"
STORES = "localhost/embedfleet-stores:check"
# What of the user's pip reaches the builds; the CA only where the base has it.
PIP_KEYS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout")
BUILD_SECONDS = 3600
CA = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True)
class Built:
    """An image, what it took, and what it has over its base."""

    name: str
    seconds: float
    megabytes: float
    over_base: float


def base_image() -> tuple[str, str]:
    """Return a base and a word on where it is from: BASE_IMAGE, the pinned one, or debootstrap's.

    Raises:
        Skipped: none can be had.
    """
    engine = first()
    if chosen := os.environ.get("BASE_IMAGE"):
        return chosen, "BASE_IMAGE"
    pinned = read("api")[0][0].partition("=")[2]
    try:
        engine.run("pull", "--quiet", pinned, seconds=300)
        return pinned, "the pinned one"
    except Failed as refused:
        if engine.exists(MADE_HERE):
            return MADE_HERE, "debootstrap, made before"
        if not shutil.which("debootstrap") or os.geteuid():
            reason = f"{pinned} can't be had ({refused}); neither can debootstrap make one, which needs root"
            raise Skipped(f"{reason}: set BASE_IMAGE") from refused
    _debootstrap(engine)
    return MADE_HERE, "debootstrap"


def _debootstrap(engine: Engine) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, archive = Path(folder) / "root", Path(folder) / "root.tar"
        packages = "--include=python3,python3-venv,ca-certificates"
        _checked("debootstrap", "--variant=minbase", packages, "bookworm", str(root))
        _checked("chroot", str(root), "apt-get", "clean")
        # Behind a proxy with a CA of its own the builds need what this machine has.
        shutil.copy(CA, root / CA.relative_to("/"))
        for leftover in (*root.glob("var/lib/apt/lists/*_*"), *root.glob("var/cache/apt/*.bin")):
            leftover.unlink()
        _checked("tar", "-C", str(root), "-cf", str(archive), ".")
        engine.run("import", "--change", 'CMD ["python3"]', str(archive), MADE_HERE, seconds=600)


def _checked(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1800)
    if done.returncode:
        raise Skipped(f"{command[0]} failed: " + " | ".join((done.stdout + done.stderr).splitlines()[-4:]))


def pip_settings(base: str) -> str:
    """Return a pip.conf with the user's own index."""
    if given := os.environ.get("PIP_CONF"):
        return Path(given).read_text("utf-8")
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    found = dict(re.findall(r"(?m)^(?:global|:env:)\.([a-z-]+)='(.*)'$", listed))
    lines = [f"{key} = {found[key]}" for key in PIP_KEYS if key in found and "file:" not in found[key]]
    if base == MADE_HERE:
        lines.append(f"cert = {CA}")
    return "\n".join(["[global]", *lines, ""])


def model_folder(place: Path) -> Path:
    """Copy the model of the settings, and nothing else of the cache, to where a build can take it from."""
    files = locate(ModelSettings(), "onnx")
    shutil.copytree(files.folder, place / files.folder.parent.name / files.folder.name)
    return place


def build(engine: Engine, image: str, base: str, work: Path, tag: str) -> Built:
    """Build one image from nothing.

    Raises:
        Failed: a step failed, the footprint check among them.
    """
    kind, stage = TARGETS[image]
    began = time.monotonic()
    engine.run(
        *("build", "--no-cache", "--network=host", "--file", str(ROOT / "images" / kind / "Dockerfile")),
        *("--target", stage, "--tag", tag, "--build-arg", f"BASE_IMAGE={base}"),
        *("--build-arg", f"VERSION={tag.rpartition(':')[2]}"),
        *("--build-context", f"models={work / 'models'}", "--secret", f"id=pip.conf,src={work / 'pip.conf'}"),
        str(ROOT),
        seconds=BUILD_SECONDS,
    )
    size = engine.megabytes(tag)
    return Built(tag, time.monotonic() - began, size, size - engine.megabytes(base))


def build_stores(engine: Engine, api: str, work: Path) -> None:
    """Build what stands in for Redis and Qdrant where their images can't be had."""
    engine.run(
        *("build", "--network=host", "--file", str(ROOT / "tests/images/stores.Dockerfile"), "--tag", STORES),
        *("--build-arg", f"API_IMAGE={api}", "--secret", f"id=pip.conf,src={work / 'pip.conf'}"),
        str(ROOT),
        seconds=BUILD_SECONDS,
    )
