"""A container engine: docker or podman, whichever is at hand and can run something."""

import contextlib
import os
import resource
import shlex
import shutil
import subprocess
from collections.abc import Iterator


class Skipped(Exception):
    """What is missing here, in a sentence."""


class Failed(Exception):
    """What did not hold, in a sentence."""


class Engine:
    """One engine's command line.

    Args:
        command: the program and the options before its subcommand.
    """

    def __init__(self, command: list[str]) -> None:
        self.command = command

    @property
    def is_podman(self) -> bool:
        """Whether it is podman, whose defaults are others than docker's."""
        return self.command[0].endswith("podman")

    def run(self, *arguments: str, seconds: float = 60) -> str:
        """Run a subcommand; return what it printed.

        Raises:
            Failed: it failed, or took longer; with its last lines.
        """
        try:
            done = subprocess.run(
                [*self.command, *arguments],
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds,
                env={**os.environ, "DOCKER_BUILDKIT": "1"},
            )
        except subprocess.TimeoutExpired as error:
            raise Failed(f"`{arguments[0]}` took longer than {seconds:.0f} s") from error
        if done.returncode:
            tail = " | ".join((done.stdout + done.stderr).strip().splitlines()[-8:])
            raise Failed(f"`{' '.join(arguments[:3])}` failed: {tail}")
        return done.stdout.strip()

    def exists(self, image: str) -> bool:
        """Say whether an image is here."""
        try:
            return bool(self.run("image", "inspect", image))
        except Failed:
            return False

    def megabytes(self, image: str) -> float:
        """Return an image's size, its layers unpacked."""
        return int(self.run("image", "inspect", "--format", "{{.Size}}", image)) / 1e6

    def limits(self) -> list[str]:
        """Return the limits of a container's processes: podman's own may be above those of this machine."""
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        return ["--ulimit", f"nofile={files}:{files}", "--ulimit", "nproc=4096:4096"]


def candidates() -> Iterator[Engine]:
    """Yield the engines that answer here; with ENGINE, the user's own choice alone."""
    named = ["docker"], ["podman"]
    for command in [shlex.split(os.environ["ENGINE"])] if os.environ.get("ENGINE") else named:
        engine = Engine(list(command))
        # The client of docker may be here without the daemon.
        with contextlib.suppress(Failed, OSError):
            engine.run("info")
            yield engine
            # crun, podman's default, refuses a machine with both versions of cgroups.
            if command == ["podman"] and (runc := shutil.which("runc")):
                yield Engine(["podman", "--runtime", runc])


def first() -> Engine:
    """Return an engine for what needs no container: pulling and importing.

    Raises:
        Skipped: there is none.
    """
    for engine in candidates():
        return engine
    raise Skipped("neither docker nor podman answers (on Debian: apt-get install podman buildah runc)")


def working(image: str) -> Engine:
    """Return the first engine that runs a container of this image.

    Raises:
        Skipped: none does; with the words of each.
    """
    words = []
    for engine in candidates():
        try:
            engine.run("run", "--rm", *engine.limits(), image, "python3", "--version", seconds=120)
        except Failed as error:
            words.append(f"{' '.join(engine.command)}: {error}")
        else:
            return engine
    raise Skipped("no container can be run here: " + "; ".join(words))
