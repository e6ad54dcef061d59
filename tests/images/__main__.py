"""Builds the images, starts the fleet of the compose files, ingests the examples: ``python -m tests.images``.

Skipped, with the reason, where something is missing for it. Variables: ENGINE (its command), BASE_IMAGE,
PIP_CONF (file with the settings of pip), REDIS_IMAGE and QDRANT_IMAGE (else stand-ins are built).
"""

import hashlib
import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx

import embedfleet
from embedfleet.local.ports import free_ports
from tests.deploy.chart import ROOT
from tests.deploy.compose import APP, CPU, config
from tests.images.build import Built, base_image, build, build_stores, model_folder, pip_settings
from tests.images.engine import Engine, Failed, Skipped, working
from tests.images.fleet import Fleet

DOCUMENTS_MEGABYTES = 250
REGISTRY = "localhost/"
TAGS = {
    "documents": f"{REGISTRY}embedfleet/documents:{embedfleet.__version__}",
    "api": f"{REGISTRY}embedfleet/api:{embedfleet.__version__}",
    "embeddings-cpu": f"{REGISTRY}embedfleet/embeddings:{embedfleet.__version__}-cpu",
}
# What is asked in each container: who process 1 is, what it may do, and whether it can write the image.
ASKED = """
import os
status = dict(line.split(":", 1) for line in open("/proc/1/status"))
print(os.getuid(), *(status[name].strip() for name in ("Name", "CapEff", "CapBnd", "NoNewPrivs")))
print(*(bool(os.statvfs(place).f_flag & os.ST_RDONLY) for place in ("/", "/opt/app", "/models", "/etc")))
"""
CLOSED = ["10001 tini 0000000000000000 0000000000000000 1", "True True True True"]


def main() -> int:
    """Run it; 1 when something did not hold."""
    try:
        base, origin = base_image()
        engine = working(base)
    except Skipped as reason:
        print(f"images skipped: {reason}")
        return 0
    print(f"engine: {' '.join(engine.command)}; base: {base} ({origin}), {engine.megabytes(base):.0f} MB")
    try:
        with tempfile.TemporaryDirectory() as folder:
            built = _built(engine, base, Path(folder))
        line = _ingested(engine)
    except Failed as error:
        print(f"images failed: {error}")
        return 1
    sizes = " ".join(f"{name}_mb={one.over_base:.0f}" for name, one in built.items())
    print(f"images ok: {sizes} {line}")
    return 0


def _built(engine: Engine, base: str, work: Path) -> dict[str, Built]:
    (work / "models").mkdir()
    model_folder(work / "models")
    (work / "pip.conf").write_text(pip_settings(base), "utf-8")
    built = {}
    for image, tag in TAGS.items():
        one = built[image] = build(engine, image, base, work, tag)
        size = f"{one.megabytes:.0f} MB, {one.over_base:.0f} MB over the base"
        print(f"{one.name}: {size}, built in {one.seconds:.0f} s")
    if built["documents"].over_base >= DOCUMENTS_MEGABYTES:
        raise Failed(f"documents has more than {DOCUMENTS_MEGABYTES} MB over its base")
    if _stand_ins():
        build_stores(engine, TAGS["api"], work)
    return built


def _stand_ins() -> set[str]:
    return {name for name in ("redis", "qdrant") if not os.environ.get(f"{name.upper()}_IMAGE")}


def _ingested(engine: Engine) -> str:
    (port,) = free_ports(1)
    key = secrets.token_hex(32)
    entry = {"name": "check", "tenant": "default", "sha256": hashlib.sha256(key.encode()).hexdigest()}
    chosen = {name: os.environ[name] for name in ("REDIS_IMAGE", "QDRANT_IMAGE") if name in os.environ}
    variables = {
        "FLEET_API_KEYS": json.dumps([entry]),
        "API_ADDRESS": f"127.0.0.1:{port}",
        "REGISTRY": REGISTRY,
    }
    fleet = Fleet(engine, config(CPU, variables | chosen), _stand_ins())
    url = f"http://127.0.0.1:{port}"
    with fleet.networks():
        for service in ("redis", "qdrant", *APP):
            print(f"{service} is healthy after {fleet.start(service):.1f} s")
        for service in APP:
            seen = fleet.ask(service, "python", "-c", ASKED).splitlines()
            if seen != CLOSED:
                raise Failed(f"{service} is not closed: {seen}, not {CLOSED}")
        print(f"{', '.join(APP)}: user 10001 beneath tini, no capability, the root file system is read-only")
        documents = _ingest(fleet, url, key)
        right = _searched(url, key)
        stops = {service: fleet.stop(service) for service in reversed(APP)}
    for service, (seconds, code) in stops.items():
        print(f"{service} ended {seconds:.1f} s after SIGTERM with {code}")
        # uvicorn ends by the signal that it was sent.
        if code not in ((0, 143) if service == "api" else (0,)):
            raise Failed(f"{service} ended with {code}")
    slowest = max(seconds for seconds, _ in stops.values())
    return f"documents={documents} searches={right} stop_s={slowest:.1f}"


def _ingest(fleet: Fleet, url: str, key: str) -> int:
    command = [sys.executable, "-m", "embedfleet.cli", "ingest", str(ROOT / "examples/documents")]
    done = subprocess.run(
        [*command, "--collection", "examples", "--url", url, "--timeout", "300"],
        env={**os.environ, "FLEET_API_KEY": key},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    if done.returncode:
        logs = "; ".join(f"{name}: {fleet.log(name)}" for name in APP)
        raise Failed(f"the examples were not ingested: {done.stdout[-800:]} {done.stderr[-800:]} {logs}")
    ready = len(re.findall(r'"state": ?"READY"', done.stdout))
    expected = len(list((ROOT / "examples/documents").iterdir()))
    if ready != expected:
        raise Failed(f"{ready} of {expected} documents are READY: {done.stdout[-800:]}")
    return ready


def _searched(url: str, key: str) -> int:
    searches = json.loads((ROOT / "examples/searches.json").read_text("utf-8"))
    for search in searches:
        hits = (
            httpx.post(
                f"{url}/api/v1/search",
                json={"collection": "examples", "query": search["query"], "limit": 3},
                headers={"Authorization": f"Bearer {key}"},
                timeout=30,
            )
            .raise_for_status()
            .json()["hits"]
        )
        if not hits or hits[0]["filename"] != search["expect"]:
            raise Failed(f"{search['query']!r} does not find {search['expect']} first")
    return len(searches)


if __name__ == "__main__":
    sys.exit(main())
