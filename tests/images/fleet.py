"""Starts the services of the compose files with any engine: what compose says, said to `docker create`."""

import contextlib
import re
import time
from collections.abc import Iterator
from typing import Any

from tests.deploy.compose import Config
from tests.images.build import STORES
from tests.images.engine import Engine, Failed

READY_SECONDS = 180
# Serves the stand-in to the network, where `embedfleet up` keeps it on the loopback address.
QDRANT = """
import contextlib, pathlib, uvicorn
from embedfleet.local.qdrant.catalog import Catalog
from embedfleet.local.qdrant.routes import create_app
catalog = Catalog(pathlib.Path("/qdrant/storage"))
@contextlib.asynccontextmanager
async def nothing(app):
    yield
uvicorn.run(create_app(catalog, nothing), host="0.0.0.0", port=6333, log_level="warning")
"""


class Fleet:
    """The services of one compose configuration, as containers on its networks.

    Args:
        engine: what runs them.
        config: what docker-compose made of the files.
        stand_ins: services whose image can't be had here.
    """

    def __init__(self, engine: Engine, config: Config, stand_ins: set[str]) -> None:
        self._engine, self._config, self._stand_ins = engine, config, stand_ins
        self._prefix = f"{config['name']}-check-"

    def name(self, service: str) -> str:
        """Return a service's container."""
        return self._prefix + service

    @contextlib.contextmanager
    def networks(self) -> Iterator[None]:
        """Make networks and volumes; remove them, and every container, at the end."""
        self._clean()
        for name, network in self._config["networks"].items():
            self._engine.run(
                "network", "create", *(["--internal"] if network.get("internal") else []), self._prefix + name
            )
        for name in self._config["volumes"]:
            self._engine.run("volume", "create", self._prefix + name)
        try:
            yield
        finally:
            self._clean()

    def _clean(self) -> None:
        for service in self._config["services"]:
            with contextlib.suppress(Failed):
                self._engine.run("rm", "--force", self.name(service))
        for kind in ("volumes", "networks"):
            for name in self._config[kind]:
                with contextlib.suppress(Failed):
                    self._engine.run(kind[:-1], "rm", self._prefix + name)

    def start(self, service: str) -> float:
        """Start a service and wait for its own health check; return the seconds that took.

        Raises:
            Failed: it ended, or did not become healthy in time; with the end of its log.
        """
        definition = self._config["services"][service]
        first, *others = definition["networks"]
        began = time.monotonic()
        self._engine.run(
            "create", *self._options(service, definition, first), *self._command(service, definition)
        )
        for network in others:
            self._engine.run(
                "network", "connect", "--alias", service, self._prefix + network, self.name(service)
            )
        self._engine.run("start", self.name(service))
        check = definition["healthcheck"]["test"]
        command = ["sh", "-c", check[1]] if check[0] == "CMD-SHELL" else check[1:]
        while time.monotonic() - began < READY_SECONDS:
            with contextlib.suppress(Failed):
                self._engine.run("exec", self.name(service), *command)
                return time.monotonic() - began
            if self.state(service) != "running":
                break
            time.sleep(0.5)
        raise Failed(f"{service} is not healthy ({self.state(service)}): {self.log(service)}")

    def state(self, service: str) -> str:
        """Return the state of its container."""
        return self._engine.run("inspect", "--format", "{{.State.Status}}", self.name(service))

    def log(self, service: str) -> str:
        """Return the end of what it printed."""
        with contextlib.suppress(Failed):
            return self._engine.run("logs", "--tail", "15", self.name(service)).replace("\n", " | ")
        return "it has no log"

    def ask(self, service: str, *command: str) -> str:
        """Run a command in its container."""
        return self._engine.run("exec", self.name(service), *command)

    def stop(self, service: str) -> tuple[float, int]:
        """Send SIGTERM, and SIGKILL after its grace; return the seconds that took, and the exit code."""
        grace = _seconds(self._config["services"][service]["stop_grace_period"])
        began = time.monotonic()
        self._engine.run("stop", "-t", str(grace), self.name(service), seconds=grace + 30)
        code = self._engine.run("inspect", "--format", "{{.State.ExitCode}}", self.name(service))
        return time.monotonic() - began, int(code)

    def _options(self, service: str, definition: Config, network: str) -> list[str]:
        options = [
            "--name",
            self.name(service),
            "--network",
            self._prefix + network,
            "--network-alias",
            service,
        ]
        options += ["--read-only"] if definition["read_only"] else []
        options += ["--read-only-tmpfs=false"] if self._engine.is_podman else []
        options += ["--init"] if definition.get("init") and not self._engine.is_podman else []
        options += [f"--cap-drop={name}" for name in definition["cap_drop"]]
        # docker's words for it, without the value that podman doesn't know.
        options += [f"--security-opt={text.partition(':')[0]}" for text in definition["security_opt"]]
        options += ["--user", definition["user"], "--memory", str(definition["mem_limit"])]
        options += ["--pids-limit", str(definition["pids_limit"]), *self._engine.limits()]
        options += [f"--tmpfs={place},rw,noexec,nosuid,nodev" for place in definition.get("tmpfs", [])]
        for mount in definition.get("volumes", []):
            options += ["--volume", f"{self._prefix}{mount['source']}:{mount['target']}"]
        for name, value in definition.get("environment", {}).items():
            options += ["--env", f"{name}={value}"]
        for port in definition.get("ports", []):
            options += ["--publish", f"{port['host_ip']}:{port['published']}:{port['target']}"]
        return options

    def _command(self, service: str, definition: Config) -> list[str]:
        command: list[Any] = definition.get("command") or []
        if service not in self._stand_ins:
            return [definition["image"], *(word.replace("$$", "$") for word in command)]
        if service == "qdrant":
            return [STORES, "python", "-P", "-c", QDRANT]
        return [STORES, *(word.replace("$$", "$") for word in command)]


def _seconds(text: str) -> int:
    return sum(int(n) * {"h": 3600, "m": 60, "s": 1}[unit] for n, unit in re.findall(r"(\d+)([hms])", text))
