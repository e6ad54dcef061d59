"""The locks pin, with hashes, what the image's extras ask for, and nothing that the image must not have."""

import re
import runpy
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
IMAGE = {"sys_platform": "linux", "platform_machine": "x86_64", "python_version": "3.11"}
FOOTPRINT = runpy.run_path(str(ROOT / "images/footprint.py"))
# Lock → the image that it is for, and the extras.
LOCKS = {
    "api/requirements.lock": ("api", ["api", "cli"]),
    "documents/requirements.lock": ("documents", ["documents"]),
    "embeddings/requirements.lock": ("embeddings-cpu", ["embeddings-cpu"]),
    "embeddings/gpu.lock": ("embeddings-gpu", ["embeddings-gpu"]),
    "embeddings/gpu-torch.lock": ("embeddings-gpu", ["embeddings-gpu", "torch"]),
}


def requirements(extra: str) -> Iterator[Requirement]:
    for text in PROJECT["optional-dependencies"][extra]:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate(IMAGE):
            continue
        if requirement.name == PROJECT["name"]:
            for inner in requirement.extras:
                yield from requirements(inner)
        else:
            yield requirement


def pins(lock: str) -> dict[str, str]:
    """Return what a lock installs: normalised name → version."""
    text = (ROOT / "images" / lock).read_text("utf-8")
    found = re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+) \\$", text, re.MULTILINE)
    assert text.count("--hash=sha256:") >= len(found)
    return {canonicalize_name(name): version for name, version in found}


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_satisfies_the_extras(lock: str) -> None:
    pinned, (_, extras) = pins(lock), LOCKS[lock]
    wanted = [*map(Requirement, PROJECT["dependencies"]), *requirements("object-store")]
    wanted += [item for extra in extras for item in requirements(extra)]
    for requirement in wanted:
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement
    assert ("torch" in pinned) == ("torch" in extras)


def test_every_lock_is_written_by_make_lock_and_known_here() -> None:
    script = (ROOT / "images/lock.sh").read_text("utf-8")
    written = re.findall(r"(?m)^lock (\S+) (.+)$", script)
    assert {lock: extras.split() for lock, extras in written} == {k: v for k, (_, v) in LOCKS.items()}
    assert {path.relative_to(ROOT / "images").as_posix() for path in ROOT.glob("images/**/*.lock")} == set(
        LOCKS
    )


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_brings_nothing_that_the_image_must_not_have(lock: str) -> None:
    image, _ = LOCKS[lock]
    assert FOOTPRINT["misplaced"](image, set(pins(lock))) == []


@pytest.mark.parametrize(
    ("image", "name"),
    [
        *(
            ("documents", name)
            for name in ("torch", "onnxruntime", "onnxruntime-gpu", "nvidia-cublas", "numpy")
        ),
        *(("api", name) for name in ("torch", "pypdf", "nvidia-cudnn-cu13")),
        *(("embeddings-cpu", name) for name in ("onnxruntime", "onnxruntime-gpu", "pypdf", "triton")),
        *(("embeddings-gpu", name) for name in ("onnxruntime", "lxml", "fastapi")),
    ],
)
def test_what_does_not_belong_into_an_image_is_named(image: str, name: str) -> None:
    lock = next(lock for lock, (kind, _) in LOCKS.items() if kind == image)
    assert name in "".join(FOOTPRINT["misplaced"](image, {*pins(lock), name}))
