"""What a fleet says when it is ready: commands that work in the shell of whoever reads them."""

import io
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from embedfleet.local import panel
from embedfleet.local.datadir import DEFAULT_URL, FleetState


def lines(url: str = DEFAULT_URL) -> list[str]:
    shown = io.StringIO()
    parts = {"redis": "a", "qdrant": "b", "blobs": "yours (FLEET_BLOB_URL)"}
    state = FleetState(1, url, "r", "q", parts, blobs="s3://bucket/prefix")
    panel.show(Console(width=80, file=shown), state, Path("/data"))
    return shown.getvalue().splitlines()


def commands(url: str = DEFAULT_URL) -> list[list[str]]:
    return [shlex.split(line) for line in lines(url) if "demo" in line]


def test_the_command_is_called_by_name_where_it_is_on_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "embedfleet"
    program.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [line[0] for line in commands()] == ["embedfleet", "curl", "embedfleet"]


def test_elsewhere_the_shown_command_runs_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    ingest = commands()[0]
    program = ingest[: ingest.index("ingest")]
    done = subprocess.run([*program, "--help"], capture_output=True, text=True, check=True)
    assert "ingest" in done.stdout


def test_without_a_script_beside_python_the_module_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "py thon"))
    assert commands()[2][:4] == [str(tmp_path / "py thon"), "-m", "embedfleet.cli", "search"]


def test_an_address_of_its_own_is_in_every_command() -> None:
    for line in commands("http://127.0.0.1:9"):
        assert "http://127.0.0.1:9" in " ".join(line)


def test_where_the_blobs_are_is_shown() -> None:
    (row,) = [line for line in lines() if "Blobs" in line]
    assert "yours (FLEET_BLOB_URL), at s3://bucket/prefix" in row
