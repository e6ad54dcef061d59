"""Prometheus' own checker, where the machine has it."""

import shutil
import subprocess

import pytest

PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="no promtool: install `prometheus` (Debian), or put Prometheus' promtool on PATH"
)


def run(*words: str, given: bytes = b"") -> str:
    """Return what `promtool WORDS` prints, having read `given`; fails where promtool does."""
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *words], input=given, capture_output=True, check=False, timeout=120)
    printed = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, printed
    return printed
