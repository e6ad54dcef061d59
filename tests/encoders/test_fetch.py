"""Getting a model: all of it or nothing, whatever happens on the way."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from embedfleet.contracts.errors import ConfigurationError
from embedfleet.encoders import models
from embedfleet.encoders.fetch import PARTIAL, WORK, fetch
from embedfleet.encoders.manifest import MANIFEST, file_sha256
from embedfleet.encoders.models import cached, locate, verify
from embedfleet.encoders.registry import MODEL_FILES, ONNX_DATA_FILE, KnownModel, Pin
from embedfleet.encoders.sources.hub import HubRefused, HubUnavailable
from embedfleet.runtime.settings import ModelSettings
from tests.encoders.conftest import TINY
from tests.encoders.stand_in_hub import COMMIT, MODEL_ID, Faults, StandInHub

GRAPH = "onnx/model.onnx"
DEADLINE = 30
TINY_FILES = [name for name in MODEL_FILES["onnx"] if name != ONNX_DATA_FILE]


@pytest.fixture
def settings(hub: StandInHub, tmp_path: Path) -> ModelSettings:
    return ModelSettings(model_id=MODEL_ID, model_cache=tmp_path / "cache", hub_url=hub.url)


@pytest.fixture
def environment(settings: ModelSettings) -> Mapping[str, str]:
    names = {"FLEET_MODEL_ID": MODEL_ID, "HF_ENDPOINT": settings.hub_url}
    return os.environ | names | {"FLEET_MODEL_CACHE": str(settings.model_cache)}


@pytest.fixture
def started(environment: Mapping[str, str]) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes that fetch; ended with the test."""
    command = [sys.executable, "-c", "from embedfleet.cli.main import app; app()", "models", "fetch"]
    processes: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, env=dict(environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    processes += [start(), start()]
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def until(true: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def leftovers(settings: ModelSettings) -> set[str]:
    return {path.name for path in models.home(settings).iterdir()} - {".lock"}


def test_gets_what_the_backend_needs(settings: ModelSettings) -> None:
    lines: list[str] = []
    files = fetch(settings, lines.append)
    assert files.revision == COMMIT
    assert files.weights is None
    names = {path.relative_to(files.folder).as_posix() for path in files.folder.rglob("*") if path.is_file()}
    assert names == {MANIFEST, *TINY_FILES}
    assert leftovers(settings) == {COMMIT}
    assert any(GRAPH in line for line in lines)
    assert verify(files) == len(TINY_FILES)


def test_weights_beside_the_graph_come_too(settings: ModelSettings, hub: StandInHub, tiny_copy: Path) -> None:
    (tiny_copy / ONNX_DATA_FILE).write_bytes(b"weights")
    hub.folder = tiny_copy
    files = fetch(settings, print)
    assert (files.folder / ONNX_DATA_FILE).read_bytes() == b"weights"
    assert verify(files) == len(TINY_FILES) + 1


def test_both_backends_live_side_by_side(settings: ModelSettings) -> None:
    graph, checkpoint = fetch(settings, print), fetch(settings, print, "torch")
    assert checkpoint.weights is not None
    assert checkpoint.onnx is None
    assert cached(settings.model_cache) == [graph.folder, checkpoint.folder]
    assert locate(settings).folder == graph.folder
    assert locate(settings, "torch").folder == checkpoint.folder
    assert graph.model_key == checkpoint.model_key


def test_a_second_fetch_asks_nobody(settings: ModelSettings, hub: StandInHub) -> None:
    fetch(settings, print)
    asked = len(hub.requests)
    assert fetch(settings, print) == locate(settings)
    assert len(hub.requests) == asked


def test_a_damaged_file_is_replaced(settings: ModelSettings) -> None:
    graph = fetch(settings, print).folder / GRAPH
    graph.write_bytes(bytes(graph.stat().st_size))
    assert fetch(settings, print).onnx == graph
    assert graph.read_bytes() == (TINY / GRAPH).read_bytes()
    assert leftovers(settings) == {COMMIT}


def test_force_replaces_what_is_there(settings: ModelSettings, hub: StandInHub) -> None:
    fetch(settings, print)
    fetch(settings, print, force=True)
    assert len(hub.bodies_of(GRAPH)) == 2
    assert leftovers(settings) == {COMMIT}


def test_an_optional_file_may_be_missing(settings: ModelSettings, hub: StandInHub) -> None:
    hub.faults = Faults("missing", "config_sentence_transformers.json")
    assert fetch(settings, print).passage_prefix == ""


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Faults("missing", GRAPH), HubUnavailable),
        (Faults("wrong", GRAPH), HubRefused),
        (Faults("commit", "config.json"), HubRefused),
        (Faults("oversize", "config.json"), HubRefused),
    ],
)
def test_a_failed_fetch_leaves_no_model(
    settings: ModelSettings, hub: StandInHub, fault: Faults, error: type[Exception]
) -> None:
    hub.faults = fault
    with pytest.raises(error):
        fetch(settings, print)
    with pytest.raises(ConfigurationError, match="models fetch"):
        locate(settings)
    hub.faults = Faults()
    verify(fetch(settings, print))


def test_a_failed_fetch_keeps_the_model_of_before(settings: ModelSettings, hub: StandInHub) -> None:
    files = fetch(settings, print)
    hub.faults = Faults("wrong", GRAPH)
    with pytest.raises(HubRefused):
        fetch(settings, print, force=True)
    verify(locate(settings))
    assert locate(settings) == files


def test_a_fetch_that_can_t_put_its_model_in_place_puts_the_one_of_before_back(
    settings: ModelSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, rename = fetch(settings, print), Path.rename

    def refusing(path: Path, target: Path) -> Path:
        if target == files.folder and PARTIAL in path.parts:
            raise OSError("the disk is full")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refusing)
    with pytest.raises(ConfigurationError, match="the disk is full"):
        fetch(settings, print, force=True)
    verify(locate(settings))
    assert locate(settings) == files
    assert leftovers(settings) == {COMMIT, PARTIAL}


DYING = f"""
import os, pathlib
from embedfleet.cli.main import app
rename = pathlib.Path.rename
def dying(path, target):
    if {PARTIAL!r} in path.parts and {PARTIAL!r} not in target.parts:
        os._exit(9)
    return rename(path, target)
pathlib.Path.rename = dying
app()
"""


def test_a_fetch_that_is_killed_while_it_replaces_a_model_loses_none(
    settings: ModelSettings, environment: Mapping[str, str]
) -> None:
    files = fetch(settings, print)
    command = [sys.executable, "-c", DYING, "models", "fetch", "--force"]
    assert subprocess.run(command, env=dict(environment), timeout=DEADLINE, check=False).returncode == 9
    with pytest.raises(ConfigurationError, match="models fetch"):
        locate(settings)
    offline = settings.model_copy(update={"hub_offline": True})
    assert fetch(offline, print) == files
    assert leftovers(settings) == {COMMIT, PARTIAL, WORK}
    fetch(settings, print, force=True)
    assert leftovers(settings) == {COMMIT}


def test_pins_are_held_against_a_hub_that_lies_consistently(
    settings: ModelSettings, hub: StandInHub, tiny_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pins = {name: Pin((TINY / name).stat().st_size, file_sha256(TINY / name)) for name in TINY_FILES}
    monkeypatch.setattr(models, "KNOWN", {MODEL_ID: KnownModel(COMMIT, pins)})
    verify(fetch(settings, print))
    hub.folder = tiny_copy
    (tiny_copy / "vocab.txt").write_text("unused by this backend")
    text = (tiny_copy / "config.json").read_text("utf-8")
    (tiny_copy / "config.json").write_text(text.replace('"hidden_act": "gelu"', '"hidden_act": "relu"'))
    with pytest.raises(HubRefused, match=r"config\.json"):
        fetch(settings, print, force=True)


def test_offline_and_unknown_says_what_to_do(settings: ModelSettings, hub: StandInHub) -> None:
    offline = settings.model_copy(update={"hub_offline": True})
    with pytest.raises(HubUnavailable, match="FLEET_MODEL_PATH"):
        fetch(offline, print)
    assert hub.requests == []


def test_a_folder_of_the_user_is_never_changed(tiny_copy: Path, tmp_path: Path, hub: StandInHub) -> None:
    before = sorted(tiny_copy.rglob("*"))
    settings = ModelSettings(model_path=tiny_copy, model_cache=tmp_path / "cache", hub_url=hub.url)
    assert fetch(settings, print, force=True).folder == tiny_copy
    assert sorted(tiny_copy.rglob("*")) == before
    assert hub.requests == []


def test_a_cache_that_can_t_be_written_is_no_traceback(settings: ModelSettings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ConfigurationError, match="FLEET_MODEL_CACHE"):
        fetch(settings.model_copy(update={"model_cache": tmp_path / "file" / "cache"}), print)


def test_two_processes_at_once_fetch_once(
    started: list[subprocess.Popen[str]], settings: ModelSettings, hub: StandInHub
) -> None:
    for process in started:
        out, err = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0, err
        assert json.loads(out)["folder"] == str(locate(settings).folder)
    assert len(hub.bodies_of(GRAPH)) == 1


def test_kill_in_the_middle_of_a_file_is_continued(
    started: list[subprocess.Popen[str]], settings: ModelSettings, hub: StandInHub
) -> None:
    hub.faults = Faults("stall", GRAPH, left=2)
    assert hub.stalled.wait(DEADLINE)
    half = (TINY / GRAPH).stat().st_size // 2
    part = models.home(settings) / PARTIAL / COMMIT / f"{GRAPH}.part"
    until(lambda: part.is_file() and part.stat().st_size == half)
    with pytest.raises(ConfigurationError, match="models fetch"):
        locate(settings)
    for process in started:
        process.kill()
        process.wait(DEADLINE)
    hub.faults = Faults()
    verify(fetch(settings, print))
    assert hub.bodies_of(GRAPH) == [None, f"bytes={half}-"]
    assert leftovers(settings) == {COMMIT}


def test_what_a_dead_process_left_is_cleared_away(settings: ModelSettings) -> None:
    place = models.home(settings)
    shutil.copytree(TINY, place / WORK / "environment")
    (place / PARTIAL / ("f" * 40)).mkdir(parents=True)
    fetch(settings, print)
    assert leftovers(settings) == {COMMIT}
