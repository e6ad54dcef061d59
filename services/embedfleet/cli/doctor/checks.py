"""The checks of `doctor`: each says what is well, or what is wrong and the fix. None raises."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
from pydantic import ValidationError

from embedfleet.cli.doctor.embedded import other_models
from embedfleet.cli.places import ALL, BLOBS, QDRANT, REDIS, known_places, missing
from embedfleet.contracts.errors import FleetError
from embedfleet.encoders.backends.choice import weigh
from embedfleet.encoders.backends.machine import look, runtime_wheels, wheels_problem
from embedfleet.encoders.models import locate, verify
from embedfleet.local.datadir import DataDir, FleetState
from embedfleet.local.model import backends
from embedfleet.runtime.addresses import may_use_proxy
from embedfleet.runtime.blobs import Blobs
from embedfleet.runtime.settings import (
    AdmissionSettings,
    BlobSettings,
    BrokerSettings,
    EngineSettings,
    ModelSettings,
    VectorSettings,
    settings_sentence,
)

LEAST_FREE_BYTES = 2_000_000_000
START = "start the fleet with `embedfleet up`, name its folder (--data-dir)"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is well (no `fix`) or wrong."""

    name: str
    detail: str
    fix: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing has to be done."""
        return not self.fix


@dataclass(frozen=True, slots=True)
class Place:
    """What is examined: the variables of this shell, else the fleet that runs in the data folder."""

    data: DataDir
    running: FleetState | None
    url: str

    @property
    def broker_url(self) -> str:
        """Address of Redis; empty when it isn't known."""
        url = self._known.get(REDIS)
        return BrokerSettings(broker_url=url).broker_url if url else ""

    @property
    def qdrant_url(self) -> str:
        """Address of Qdrant; empty when it isn't known."""
        url = self._known.get(QDRANT)
        return VectorSettings(url=url).url if url else ""

    @property
    def blobs(self) -> str:
        """Where the blobs are: a folder or a bucket."""
        return BlobSettings().blob_url if os.environ.get(BLOBS) else str(self.data.blobs)

    @property
    def problem(self) -> str:
        """Why it isn't known where all of the fleet is; empty when it is."""
        return missing(self._known, self.data)

    @property
    def _known(self) -> dict[str, str]:
        return known_places(self.data, self.running)


def examine(place: Place) -> Iterator[Finding]:
    """Yield the findings of every check."""
    checks: tuple[Callable[[Place], Iterator[Finding]], ...] = (
        python,
        api,
        stores,
        broker,
        qdrant,
        vectors,
        model,
        runtime,
        encoder,
        disk,
        blobs,
    )
    for check in checks:
        try:
            yield from check(place)
        except FleetError as error:
            yield Finding(check.__name__, error.detail, "do as it says")
        except ValidationError as error:
            yield Finding(check.__name__, settings_sentence(error), "correct the variable")
        except Exception as error:  # a check that breaks is a finding, too
            yield Finding(check.__name__, f"the check broke: {type(error).__name__}", "report this")


def python(place: Place) -> Iterator[Finding]:
    """Python's version."""
    version = ".".join(map(str, sys.version_info[:3]))
    fix = "" if sys.version_info >= (3, 11) else "use Python 3.11 or newer"
    yield Finding("python", version, fix)


def api(place: Place) -> Iterator[Finding]:
    """The API's readiness."""
    try:
        answer = httpx.get(f"{place.url}/readyz", timeout=5, trust_env=may_use_proxy(place.url))
    except httpx.HTTPError as error:
        yield Finding(
            "api", f"no answer from {place.url} ({type(error).__name__})", f"{START}, or give --url"
        )
        return
    if answer.is_success:
        yield Finding("api", f"ready at {place.url}")
    else:
        yield Finding("api", f"{place.url}/readyz answers {answer.status_code}", "see the other lines")


def stores(place: Place) -> Iterator[Finding]:
    """Whether Redis, Qdrant and blobs are known, and of one fleet; those that aren't are not examined."""
    if place.problem:
        yield Finding("stores", place.problem, f"{START}, or set {ALL}")


def broker(place: Place) -> Iterator[Finding]:
    """Redis: answers, version, no eviction, durable, writable."""
    if not place.broker_url:
        return
    try:
        import redis

        from embedfleet.runtime.ledger.redis_client import address_of, connect
        from embedfleet.runtime.ledger.redis_health import judge
    except ModuleNotFoundError as error:
        yield Finding("broker", f"{error.name} is not installed", "pip install 'embedfleet[local]'")
        return
    address = address_of(place.broker_url)
    try:
        client = connect(place.broker_url, timeout=3, retries=0)
        info: dict[str, Any] = client.info("everything")
    except redis.AuthenticationError:
        yield Finding("broker", f"{address} refuses the password", "correct CELERY_BROKER_URL")
    except (redis.RedisError, ValueError) as error:
        reason = type(error).__name__
        yield Finding("broker", f"no answer from {address} ({reason})", f"{START}, or set CELERY_BROKER_URL")
    else:
        client.close()
        yield Finding("broker", f"answers at {address}")
        for one in judge(info):
            yield Finding(f"broker {one.subject}", one.finding, one.fix)


def qdrant(place: Place) -> Iterator[Finding]:
    """Qdrant: answers, version, accepts the key."""
    if not place.qdrant_url:
        return
    shown = place.qdrant_url.rsplit("@", 1)[-1]
    key = VectorSettings().api_key.get_secret_value()
    headers = {"api-key": key} if key else {}
    try:
        trust = may_use_proxy(place.qdrant_url)
        with httpx.Client(base_url=place.qdrant_url, headers=headers, timeout=5, trust_env=trust) as client:
            about = client.get("/")
            listed = client.get("/collections")
        name = _server_name(about.json())
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, AttributeError) as error:
        reason = type(error).__name__
        yield Finding("qdrant", f"no right answer from {shown} ({reason})", f"{START}, or set QDRANT_URL")
        return
    if listed.status_code in (401, 403):
        yield Finding("qdrant", f"{shown} refuses the key", "set QDRANT_API_KEY")
    elif not listed.is_success:
        yield Finding("qdrant", f"{shown} answers {listed.status_code}", "look at Qdrant's log")
    else:
        yield Finding("qdrant", f"{name}, at {shown}")


def vectors(place: Place) -> Iterator[Finding]:
    """Whether search can find what Qdrant holds; nothing where that can't be told."""
    if place.broker_url and place.qdrant_url and (said := other_models(place.broker_url, place.qdrant_url)):
        yield Finding("vectors", *said)


def _server_name(about: dict[str, Any]) -> str:
    """Return what a server says of itself: a stand-in has a title of its own."""
    title = str(about.get("title", ""))
    if title and not title.lower().startswith("qdrant"):
        return title
    return f"Qdrant {about.get('version', 'of unknown version')}"


def model(place: Place) -> Iterator[Finding]:
    """The model's files, those of the worker's backend, too: there, and unchanged."""
    for backend in backends():
        try:
            files = locate(ModelSettings(), backend)
            count = verify(files)
        except FleetError as error:
            fetch = "embedfleet models fetch" + (" --backend torch" if backend == "torch" else "")
            yield Finding("model", error.detail, fetch)
        else:
            checked = f"{count} files verified" if count else "a folder of your own, nothing to compare with"
            yield Finding("model", f"{files.model_id} for {backend}: {checked}")


def runtime(place: Place) -> Iterator[Finding]:
    """ONNX Runtime: never two of its wheels; a machine of clients has none."""
    wheels = runtime_wheels()
    if wheels:
        found = ", ".join(f"{name} {metadata.version(name)}" for name in wheels)
        yield Finding("runtime", found, wheels_problem())


def encoder(place: Place) -> Iterator[Finding]:
    """What an embedding worker would compute with here; nothing where no runtime is installed."""
    engine = EngineSettings()
    if engine.backend == "onnx" and not runtime_wheels():
        return
    obstacles = weigh(engine, look(engine.backend))
    best = next(choice for choice, obstacle in obstacles.items() if not obstacle)
    yield Finding("encoder", f"an embedding worker here computes by {best}: {best.why}")


def disk(place: Place) -> Iterator[Finding]:
    """Free space where a fleet's data is and, elsewhere, the blobs; a pod of the API has these alone."""
    data = place.data.path
    has_data = place.running or os.path.isdir(data) or not os.environ.get("FLEET_BLOB_URL")
    if has_data:
        yield _room(data, LEAST_FREE_BYTES, "uploads, Redis and vectors")
    if "://" in place.blobs:
        return
    folder = Path(place.blobs).expanduser()
    if not has_data or _existing(folder).stat().st_dev != _existing(data).stat().st_dev:
        yield _room(folder, max(LEAST_FREE_BYTES, AdmissionSettings().min_free_disk), "uploads")


def _room(folder: Path, least: float, users: str) -> Finding:
    """Judge the free bytes of a disk by the least that those who write there need."""
    free = shutil.disk_usage(_existing(folder)).free
    fix = "" if free >= least else f"make room: {users} need it"
    return Finding("disk", f"{free / 1e9:.1f} GB free for {folder}", fix)


def blobs(place: Place) -> Iterator[Finding]:
    """Whether the folder or the bucket of the blobs can be written."""
    if "://" in place.blobs:
        Blobs(place.blobs).check()
        yield Finding("blobs", f"{place.blobs} can be written")
        return
    folder = Path(place.blobs).expanduser()
    nearest = _existing(folder)
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        yield Finding("blobs", f"{folder} can't be written: {error.strerror}", f"chown or chmod {nearest}")
    else:
        yield Finding("blobs", f"{folder} can be written")


def _existing(path: Path) -> Path:
    """Return the path, or the nearest folder above it that exists."""
    # Not `Path.is_dir`, which before Python 3.12 raises for what lies in a folder that may not be entered.
    return next(one for one in (path.resolve(), *path.resolve().parents) if os.path.isdir(one))
