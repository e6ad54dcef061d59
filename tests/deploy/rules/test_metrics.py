"""What API and workers show on `/metrics` follows Prometheus' conventions: types, names, help."""

import subprocess
import sys
from pathlib import Path

import pytest

from embedfleet.local.redis import RedisServer
from tests.api.serving import base_env, fetch, send, serving
from tests.deploy.rules.promtool import needs_promtool, run

SHOW = "import sys, prometheus_client as p, embedfleet.{}.tasks; sys.stdout.buffer.write(p.generate_latest())"


@needs_promtool
def test_the_api_keeps_to_the_conventions(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as redis:
        env = base_env(redis.url, tmp_path) | {"FLEET_AUTH": "off"}
        with serving(env, tmp_path) as api, api.client() as client:
            assert send(client).status_code == 202
            shown = fetch(f"{api.url}/metrics").content
    assert b"fleet_queue_depth{" in shown
    run("check", "metrics", given=shown)


@needs_promtool
@pytest.mark.parametrize("pool", ["documents", "embeddings"])
def test_workers_keep_to_the_conventions(pool: str, tmp_path: Path) -> None:
    # What a worker shows is made where its modules are read, and is zero until it works. Families without a
    # series yet, since their labels aren't known before, promtool passes over.
    command = [sys.executable, "-c", SHOW.format(pool)]
    env = base_env("redis://127.0.0.1:1/0", tmp_path)
    shown = subprocess.run(command, env=env, capture_output=True, check=True, timeout=120).stdout
    assert b"# TYPE fleet_messages_dropped_total counter" in shown
    run("check", "metrics", given=shown)
