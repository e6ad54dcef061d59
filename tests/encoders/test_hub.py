"""One file from a hub: whole, verified, or not at all."""

from pathlib import Path

import pytest

from embedfleet.encoders.manifest import file_sha256
from embedfleet.encoders.registry import Pin
from embedfleet.encoders.sources import expected
from embedfleet.encoders.sources.hub import ATTEMPTS, Hub, HubRefused, HubUnavailable
from tests.encoders.conftest import TINY
from tests.encoders.stand_in_hub import COMMIT, MODEL_ID, Faults, StandInHub

GRAPH = "onnx/model.onnx"


def get(hub: StandInHub, name: str, path: Path, pin: Pin | None = None) -> bytes:
    with Hub(hub.url, print, timeout=5, backoff=0) as client:
        client.download(MODEL_ID, COMMIT, name, path, pin)
    return path.read_bytes()


def pin_of(name: str) -> Pin:
    return Pin((TINY / name).stat().st_size, file_sha256(TINY / name))


def test_tells_the_commit_of_main(hub: StandInHub) -> None:
    with Hub(hub.url, print) as client:
        assert client.commit(MODEL_ID) == COMMIT
        with pytest.raises(HubUnavailable, match="404"):
            client.commit("acme/other")


@pytest.mark.parametrize("name", [GRAPH, "config.json"])
@pytest.mark.parametrize("pinned", [True, False])
def test_gets_a_file(hub: StandInHub, tmp_path: Path, name: str, pinned: bool) -> None:
    assert get(hub, name, tmp_path / "x", pin_of(name) if pinned else None) == (TINY / name).read_bytes()


@pytest.mark.parametrize("name", [GRAPH, "config.json"])
@pytest.mark.parametrize("kind", ["truncate", "error"])
def test_a_broken_transfer_is_tried_again(hub: StandInHub, tmp_path: Path, name: str, kind: str) -> None:
    hub.faults = Faults(kind, name, left=ATTEMPTS - 1)
    assert get(hub, name, tmp_path / "x") == (TINY / name).read_bytes()


def test_a_broken_transfer_is_continued_where_it_broke(hub: StandInHub, tmp_path: Path) -> None:
    hub.faults = Faults("truncate", GRAPH, left=1)
    get(hub, GRAPH, tmp_path / "x")
    half = (TINY / GRAPH).stat().st_size // 2
    assert hub.bodies_of(GRAPH) == [None, f"bytes={half}-"]


def test_what_breaks_again_and_again_is_given_up(hub: StandInHub, tmp_path: Path) -> None:
    hub.faults = Faults("error", GRAPH)
    with pytest.raises(HubUnavailable, match="503"):
        get(hub, GRAPH, tmp_path / "x")
    assert len(hub.bodies_of(GRAPH)) == ATTEMPTS


def test_a_rotten_beginning_is_found_and_removed(hub: StandInHub, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"rotten")
    with pytest.raises(HubRefused, match="not the expected file"):
        get(hub, GRAPH, tmp_path / "x")
    assert get(hub, GRAPH, tmp_path / "x") == (TINY / GRAPH).read_bytes()


def test_a_beginning_as_long_as_the_file_starts_anew(hub: StandInHub, tmp_path: Path) -> None:
    for extra in (0, 1):
        (tmp_path / "x").write_bytes(bytes((TINY / GRAPH).stat().st_size + extra))
        assert get(hub, GRAPH, tmp_path / "x") == (TINY / GRAPH).read_bytes()
        (tmp_path / "x").write_bytes(bytes((TINY / GRAPH).stat().st_size + extra))
        assert get(hub, GRAPH, tmp_path / "x", pin_of(GRAPH)) == (TINY / GRAPH).read_bytes()


@pytest.mark.parametrize("name", [GRAPH, "config.json"])
@pytest.mark.parametrize("kind", ["wrong", "oversize", "commit"])
@pytest.mark.parametrize("pinned", [True, False])
def test_other_content_is_refused_and_removed(
    hub: StandInHub, tmp_path: Path, name: str, kind: str, pinned: bool
) -> None:
    hub.faults = Faults(kind, name)
    with pytest.raises(HubRefused):
        get(hub, name, tmp_path / "x", pin_of(name) if pinned else None)
    assert not (tmp_path / "x").exists()


def test_a_hub_that_has_another_version_of_a_pinned_file_is_refused(hub: StandInHub, tmp_path: Path) -> None:
    pin = pin_of("config.json")
    with pytest.raises(HubRefused):
        get(hub, "config.json", tmp_path / "x", Pin(pin.size, "0" * 64))


def test_more_than_the_limit_is_not_even_read(
    hub: StandInHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expected, "MAX_LARGE_BYTES", 1000)
    with pytest.raises(HubRefused, match="more than 1000"):
        get(hub, GRAPH, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_missing_file_is_told_apart(hub: StandInHub, tmp_path: Path) -> None:
    with pytest.raises(HubUnavailable) as error:
        get(hub, "no/such.json", tmp_path / "x")
    assert error.value.missing


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "nonsense", "http://name.invalid"])
def test_an_unreachable_hub_is_no_traceback(endpoint: str, tmp_path: Path) -> None:
    with Hub(endpoint, print, backoff=0) as client, pytest.raises(HubUnavailable, match="can't be reached"):
        client.download(MODEL_ID, COMMIT, GRAPH, tmp_path / "x", None)
