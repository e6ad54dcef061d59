"""A server with two tenants on a Redis of its own; the tests play the workers."""

from collections.abc import Iterator

import httpx
import pytest

from embedfleet.local.redis import RedisServer
from tests.api.serving import ALPHA_KEY, BETA_KEY, MAX_UPLOAD_BYTES, Api, base_env, keys_json, serving


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server with keys for the tenants alpha and beta; requests go out with alpha's."""
    folder = tmp_path_factory.mktemp("api")
    with RedisServer(folder / "redis") as server:
        env = base_env(server.url, folder) | {
            "FLEET_API_KEYS": keys_json(),
            "FLEET_MAX_UPLOAD_BYTES": str(MAX_UPLOAD_BYTES),
        }
        with serving(env, folder, {"X-API-Key": ALPHA_KEY}) as running:
            yield running


@pytest.fixture
def alpha(api: Api) -> Iterator[httpx.Client]:
    """A client of the tenant alpha."""
    with api.client() as client:
        yield client


@pytest.fixture
def beta(api: Api) -> Iterator[httpx.Client]:
    """A client of the tenant beta."""
    with api.client(**{"X-API-Key": BETA_KEY}) as client:
        yield client
