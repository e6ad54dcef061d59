"""The commands, in this process and as programs."""

import json
import os
import pty
import subprocess
import sys
from typing import Any

from typer.testing import CliRunner, Result

from embedfleet.cli.main import app

PROGRAM = [sys.executable, "-c", "from embedfleet.cli.main import app; app()"]


def command(*arguments: str) -> Result:
    """Run a command in this process, stdout being a pipe."""
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def program(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a program."""
    return subprocess.run(
        PROGRAM + list(arguments), env={**os.environ, **env}, capture_output=True, text=True, timeout=60
    )


def on_terminal(*arguments: str) -> tuple[str, int]:
    """Run a command on a terminal; return what it shows and its exit code."""
    master, terminal = pty.openpty()
    process = subprocess.Popen(PROGRAM + list(arguments), stdout=terminal, stderr=terminal)
    os.close(terminal)
    shown = b""
    try:
        while block := os.read(master, 65536):
            shown += block
    except OSError:  # Linux ends a terminal like this
        pass
    os.close(master)
    return shown.decode(), process.wait(30)


def events(output: str) -> list[dict[str, Any]]:
    """Return the JSON lines of an output."""
    return [json.loads(line) for line in output.splitlines()]
