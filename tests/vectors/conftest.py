"""Vector stores to compare: the embedded stand-in, a real server if there is one, and local mode."""

import os
import uuid
import warnings
from collections.abc import Iterator

import pytest
from oracle import Oracle
from tests.qdrant_process import QdrantProcess

from embedfleet.runtime.settings import VectorSettings
from embedfleet.vectors import VectorStore

SERVER_URL = os.environ.get("EMBEDFLEET_TEST_QDRANT_URL", "")
SERVER = pytest.param(
    "server", marks=pytest.mark.skipif(not SERVER_URL, reason="EMBEDFLEET_TEST_QDRANT_URL isn't set")
)


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantProcess]:
    """The stand-in, one for all tests of this process."""
    with QdrantProcess(tmp_path_factory.mktemp("qdrant")) as process:
        yield process


@pytest.fixture(params=["stand-in", SERVER])
def store(request: pytest.FixtureRequest) -> Iterator[VectorStore]:
    """A vector store on each kind of server."""
    url = SERVER_URL if request.param == "server" else request.getfixturevalue("stand_in").url
    store = VectorStore(VectorSettings(url=url))
    yield store
    store.close()


@pytest.fixture
def oracle() -> Iterator[VectorStore]:
    """The same store on qdrant-client's local mode."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Payload indexes have no effect")
        oracle = Oracle()
        yield oracle
        oracle.close()


@pytest.fixture
def name(store: VectorStore) -> Iterator[str]:
    """The name of a collection that this test alone uses."""
    name = f"test__{uuid.uuid4().hex}"
    yield name
    store._client.delete_collection(name)
