"""The commands, in this process and as programs."""

import json
import os
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


def events(output: str) -> list[dict[str, Any]]:
    """Return the JSON lines of an output."""
    return [json.loads(line) for line in output.splitlines()]
