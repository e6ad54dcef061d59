"""The locks pin, with hashes, a version that satisfies each requirement of the image's extra."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
IMAGE = {"sys_platform": "linux", "platform_machine": "x86_64", "python_version": "3.11"}
EXTRA_OF = {"api": "api", "documents": "documents", "embeddings": "embeddings-cpu"}


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


@pytest.mark.parametrize("image", EXTRA_OF)
def test_lock_satisfies_the_extra(image: str) -> None:
    text = (ROOT / "images" / image / "requirements.lock").read_text("utf-8")
    pinned = dict(re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+) \\$", text, re.MULTILINE))
    pinned = {canonicalize_name(name): version for name, version in pinned.items()}
    wanted = [
        *map(Requirement, PROJECT["dependencies"]),
        *requirements(EXTRA_OF[image]),
        *requirements("object-store"),
    ]
    for requirement in wanted:
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement
    assert text.count("--hash=sha256:") >= len(pinned)
    assert "torch" not in pinned
