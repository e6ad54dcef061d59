"""The tiny models, the real one, and a stand-in hub."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedfleet.encoders.fetch import fetch
from embedfleet.encoders.files import ModelFiles, inspect
from embedfleet.encoders.golden import Golden, golden_of
from embedfleet.encoders.manifest import write_manifest
from embedfleet.runtime.settings import ModelSettings
from tests.encoders.stand_in_hub import StandInHub

HERE = Path(__file__).parent
TINY = HERE / "tiny"


def tiny_model(name: str) -> tuple[ModelFiles, Golden]:
    """Return a random model of 16 dimensions, and what sentence-transformers gives for it."""
    golden = json.loads((HERE / "tiny_golden.json").read_text("utf-8"))[f"test/{name}"]
    return inspect(HERE / name, f"test/{name}"), golden_of(golden)


def put(cache: Path, revision: str) -> Path:
    """Put the tiny model into a cache, as a fetch does; return its folder."""
    folder = cache / "acme--tiny" / revision
    folder.mkdir(parents=True)
    for path in TINY.rglob("*.*"):
        (folder / path.relative_to(TINY)).parent.mkdir(exist_ok=True)
        (folder / path.relative_to(TINY)).write_bytes(path.read_bytes())
    write_manifest(folder, "acme/tiny", revision[:40], "hub")
    return folder


@pytest.fixture(scope="session")
def tiny_files() -> ModelFiles:
    """A random BERT of 16 dimensions."""
    return tiny_model("tiny")[0]


@pytest.fixture(scope="session")
def tiny_golden() -> Golden:
    """What sentence-transformers gives for the tiny model."""
    return tiny_model("tiny")[1]


@pytest.fixture
def tiny_copy(tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return Path(shutil.copytree(TINY, tmp_path / "tiny"))


@pytest.fixture(scope="session")
def real_files() -> ModelFiles:
    """The real model, fetched into the ordinary cache where it isn't there yet."""
    return fetch(ModelSettings(), print)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInHub]:
    """A hub that has the tiny model; no proxy of the user's is between."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with StandInHub(TINY) as stand_in:
        yield stand_in
