"""`embedfleet models` as a user types it, in a pipe."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from embedfleet.encoders.manifest import write_manifest
from tests.encoders.stand_in_hub import COMMIT, MODEL_ID, StandInHub

COMMAND = [sys.executable, "-c", "from embedfleet.cli.main import app; app()", "models"]


def run(*arguments: str, **variables: str) -> tuple[int, list[dict[str, Any]], str]:
    done = subprocess.run(
        [*COMMAND, *arguments], env=os.environ | variables, capture_output=True, text=True, check=False
    )
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def test_fetch_list_verify(hub: StandInHub, tmp_path: Path) -> None:
    variables = {"FLEET_MODEL_ID": MODEL_ID, "FLEET_MODEL_CACHE": str(tmp_path), "HF_ENDPOINT": hub.url}
    code, (fetched,), progress = run("fetch", **variables)
    assert code == 0
    assert fetched["model_key"] == f"{MODEL_ID}@{COMMIT}:mean:"
    assert "getting onnx/model.onnx" in progress
    code, (listed,), _ = run("list", **variables)
    assert code == 0
    assert fetched.items() >= listed.items()
    code, (verified,), _ = run("verify", **variables)
    assert (code, verified) == (0, {"folder": fetched["folder"], "verified": 8})
    graph = Path(fetched["folder"]) / "onnx/model.onnx"
    graph.write_bytes(bytes(graph.stat().st_size))
    code, lines, message = run("verify", **variables)
    assert (code, lines) == (1, [])
    assert "another sha256" in message
    assert "Traceback" not in message


def test_nothing_there(tmp_path: Path) -> None:
    variables = {"FLEET_MODEL_CACHE": str(tmp_path)}
    assert run("list", **variables)[:2] == (0, [])
    code, lines, message = run("verify", **variables)
    assert (code, lines) == (1, [])
    assert "embedfleet models fetch" in message


def test_export_refuses_before_it_downloads_anything(tiny_copy: Path, tmp_path: Path) -> None:
    code, _, message = run("export", str(tiny_copy), str(tmp_path))
    assert code == 1
    assert "exists" in message
    (tiny_copy / "model.safetensors").unlink()
    write_manifest(tiny_copy, "test/tiny", "abc", "hub")
    code, _, message = run("export", str(tiny_copy), str(tmp_path / "out"))
    assert code == 1
    assert "model.safetensors" in message
    assert not (tmp_path / "out").exists()
