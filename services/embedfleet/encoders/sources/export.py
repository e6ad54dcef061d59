"""Turn a checkpoint into an ONNX graph in an environment that is thrown away afterwards.

The exporter needs torch, optimum and an older transformers: none of them may enter the
environment that the fleet runs in. Their versions are those of the extra `export`.
"""

import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

from embedfleet.contracts.errors import ConfigurationError
from embedfleet.encoders.sources import Report

INSTALL_SECONDS = 3600
EXPORT_SECONDS = 900
EXPORT_OPTIONS = ("--task=feature-extraction", "--library=transformers")
STILL_SECONDS = 30.0
LOG_TAIL = 5
# The exporter has all it needs on disk: it asks no hub, and reports to nobody.
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "PIP_NO_INPUT": "1",
}

Still = Callable[[float], None]


class ThrowawayEnvironment:
    """A virtual environment below a folder that the caller removes.

    Args:
        folder: where to make it; must not exist yet.

    Raises:
        ConfigurationError: this Python can't make virtual environments.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            venv.EnvBuilder(with_pip=True, symlinks=True).create(folder)
        except (OSError, subprocess.CalledProcessError) as error:
            raise ConfigurationError(
                f"{sys.executable} can't make a virtual environment ({error}); "
                "on Debian and Ubuntu install python3-venv",
                code="model_export",
            ) from error

    def run(self, arguments: Sequence[str], *, seconds: float, still: Still = lambda waited: None) -> None:
        """Run one of the environment's programs, quietly.

        Args:
            arguments: the program and its arguments.
            seconds: after which it is killed.
            still: called every `STILL_SECONDS` with the seconds since it began.

        Raises:
            ConfigurationError: it failed or took longer; the detail has its last lines.
        """
        command = [str(self._folder / "bin" / arguments[0]), *arguments[1:]]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment |= QUIET
        process = subprocess.Popen(  # noqa: S603 — our own arguments, no shell
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        try:
            output = _output(process, seconds, still)
        except subprocess.TimeoutExpired as error:
            raise ConfigurationError(
                f"`{' '.join(arguments[:3])}` took longer than {seconds:.0f} s; try again",
                code="model_export",
            ) from error
        if process.returncode:
            tail = " | ".join(output.strip().splitlines()[-LOG_TAIL:])
            raise ConfigurationError(f"`{' '.join(arguments[:3])}` failed: {tail}", code="model_export")


def _output(process: "subprocess.Popen[str]", seconds: float, still: Still) -> str:
    """Return what a program printed until its end; it is dead when this returns or raises.

    Raises:
        subprocess.TimeoutExpired: it took longer.
    """
    began = time.monotonic()
    with process:
        try:
            while True:
                left = seconds - (time.monotonic() - began)
                try:
                    return process.communicate(timeout=max(0.0, min(STILL_SECONDS, left)))[0]
                except subprocess.TimeoutExpired:
                    if left <= STILL_SECONDS:
                        raise
                    still(time.monotonic() - began)
        except BaseException:
            process.kill()
            raise


def export_requirements() -> list[str]:
    """Return the requirements of the extra `export`, read from the installed distribution.

    Raises:
        ConfigurationError: there is none, as in an image, where the sources are on the path.
    """
    try:
        requirements = metadata.requires("embedfleet") or []
    except metadata.PackageNotFoundError as error:
        raise ConfigurationError(
            "embedfleet is not installed here, so it can't tell what exports a model; "
            "fetch it elsewhere (`embedfleet models fetch`) and bring its folder",
            code="model_export",
        ) from error
    wanted = []
    for requirement in requirements:
        name, _, marker = requirement.partition(";")
        if "export" in marker and "extra" in marker:
            wanted.append(name.strip())
    return wanted


def export_onnx(checkpoint: Path, graph: Path, environment: ThrowawayEnvironment, report: Report) -> None:
    """Export a checkpoint's transformer (token vectors, fp32) to an ONNX graph.

    Args:
        checkpoint: folder with config.json, the tokenizer and model.safetensors.
        graph: the file to write.
        environment: where the exporter is installed.
        report: takes one line of progress at a time.

    Raises:
        ConfigurationError: installing or exporting failed.
    """
    requirements = export_requirements()
    report(
        f"installing the exporter into a throwaway environment: {', '.join(requirements)} "
        "(a CUDA build of torch, the default on Linux, is a download of several GB)"
    )
    environment.run(
        ["pip", "install", "--quiet", *requirements],
        seconds=INSTALL_SECONDS,
        still=lambda waited: report(f"still installing, {waited:.0f} s"),
    )
    report("exporting the checkpoint to ONNX")
    output = graph.parent / "exported"
    environment.run(
        ["optimum-cli", "export", "onnx", f"--model={checkpoint}", *EXPORT_OPTIONS, str(output)],
        seconds=EXPORT_SECONDS,
        still=lambda waited: report(f"still exporting, {waited:.0f} s"),
    )
    (output / "model.onnx").replace(graph)
    shutil.rmtree(output)
