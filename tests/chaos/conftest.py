from collections.abc import Iterator

import pytest

from tests.chaos.stack import SHORT_SHAPE, Stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole fleet, shared: what one scenario breaks it has to heal, or the next one tells."""
    folder = tmp_path_factory.mktemp("chaos") / "stack"
    with Stack(folder, SHORT_SHAPE) as stack:
        yield stack
