"""The Makefile's own environment has one onnxruntime."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = """#!/bin/sh
echo "$*" >> "$CALLS"
case "$*" in *"pip list"*) printf "$WHEELS";; esac
"""


@pytest.mark.parametrize("target", ["local", "dev"])
@pytest.mark.parametrize(
    ("wheels", "again"),
    [
        ("numpy==2.1\\nonnxruntime==1.23\\nonnxruntime-openvino==1.24.1\\n", True),
        ("numpy==2.1\\nonnxruntime-openvino==1.24.1\\n", False),
    ],
)
def test_two_wheels_of_onnxruntime_are_uninstalled_and_one_is_installed_again(
    tmp_path: Path, target: str, wheels: str, again: bool
) -> None:
    python, calls = tmp_path / "bin/python", tmp_path / "calls"
    python.parent.mkdir()
    python.write_text(PYTHON, "ascii")
    python.chmod(0o755)
    (tmp_path / "pip").touch()
    environment = os.environ | {"CALLS": str(calls), "WHEELS": wheels}
    subprocess.run(
        ["make", "-s", f"VENV={tmp_path}", f"{tmp_path}/{target}"], cwd=ROOT, env=environment, check=True
    )
    called = [call for call in calls.read_text("ascii").splitlines() if call.startswith("-m pip")]
    first = called[0]
    assert first.startswith("-m pip install --quiet --editable .[local]")
    removed = "-m pip uninstall --quiet --yes onnxruntime onnxruntime-openvino"
    assert called[2:] == ([removed, first] if again else [])
