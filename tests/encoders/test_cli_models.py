"""`embedfleet models` as a user types it, in a pipe."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from embedfleet.encoders.manifest import write_manifest
from tests.cli.commands import on_terminal
from tests.encoders.conftest import TINY, put
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
    assert (code, [line["folder"] for line in lines]) == (1, [fetched["folder"]])
    assert "another sha256" in message
    assert "another sha256" in lines[0]["problem"]
    assert "Traceback" not in message


def test_a_damaged_model_hides_no_other(tmp_path: Path) -> None:
    good, cut, wrong = (put(tmp_path, letter * 40) for letter in "bac")
    (cut / "config.json").write_text("{")
    (wrong / "manifest.json").write_text("{")
    variables = {"FLEET_MODEL_CACHE": str(tmp_path)}
    for command, well in (("list", "model"), ("verify", "verified")):
        code, lines, message = run(command, **variables)
        assert code == 1
        assert [line["folder"] for line in lines if well in line] == [str(good)]
        problems = {line["folder"]: line["problem"] for line in lines if "problem" in line}
        assert "config.json has 1 bytes" in problems[str(cut)]
        assert "manifest.json is broken" in problems[str(wrong)]
        assert message.count("\n") == 2
        assert all(problem in message for problem in problems.values())


def test_a_damaged_model_is_named_on_a_terminal_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_MODEL_CACHE", str(tmp_path))
    good, cut = (put(tmp_path, letter * 40) for letter in "ba")
    (cut / "tokenizer.json").unlink()
    for command in ("list", "verify"):
        shown, code = on_terminal("models", command)
        assert code == 1
        assert str(good) in shown
        assert shown.count(str(cut)) == shown.count("tokenizer.json is missing") == 1
        (good / "tokenizer.json").unlink()
        shown, code = on_terminal("models", command)
        assert (code, shown.count("tokenizer.json is missing")) == (1, 2)
        assert "no model is here" not in shown
        (good / "tokenizer.json").write_bytes((TINY / "tokenizer.json").read_bytes())


def test_a_folder_of_the_user_s_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    for command in ("list", "verify"):
        code, (line,), message = run(command, FLEET_MODEL_PATH=str(tmp_path / "none"))
        assert (code, line["folder"]) == (1, str(tmp_path / "none"))
        assert "is not a folder" in message


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
