"""What `.ci/run` says and ends with, whichever part fails."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKE = """#!/bin/sh
echo "make $*"
case "$*" in check) exit $CHECK;; test) exit $TEST;; esac
"""


@pytest.mark.parametrize(("check", "test", "code"), [(0, 0, 0), (2, 0, 2), (0, 3, 3), (2, 3, 3)])
def test_both_parts_are_heard_out_and_either_fails_the_run(
    tmp_path: Path, check: int, test: int, code: int
) -> None:
    programs = tmp_path / "bin"
    (tmp_path / ".ci").mkdir()
    programs.mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    for name, text in (("make", MAKE), ("promtool", "#!/bin/sh\n")):
        (programs / name).write_text(text, "ascii")
        (programs / name).chmod(0o755)
    environment = {"PATH": f"{programs}:{os.environ['PATH']}", "CHECK": str(check), "TEST": str(test)}
    done = subprocess.run(
        ["bash", ".ci/run"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    first, *rest = done.stdout.splitlines()
    assert first.startswith("make --jobs=2 ")
    assert ".venv-load/ready" in first.split()
    assert rest == ["make test", "make check:", "make check"]
