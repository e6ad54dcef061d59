"""The stub of the API as a fixture."""

from collections.abc import Iterator

import pytest
from stub_api import Stub, serving


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stub]:
    """An API, and an environment that knows only it."""
    one = Stub()
    with serving(one):
        monkeypatch.setenv("FLEET_URL", one.url)
        monkeypatch.setenv("FLEET_DATA_DIR", str(tmp_path_factory.mktemp("fleet")))
        monkeypatch.delenv("FLEET_API_KEY", raising=False)
        yield one
