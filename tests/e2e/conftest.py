from collections.abc import Iterator

import pytest

from tests.e2e.fleet import Fleet, running_fleet


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet with short leases, so that what is killed is taken up soon."""
    folder = tmp_path_factory.mktemp("fleet") / "data"
    with running_fleet(folder, FLEET_LEASE_SECONDS="4", FLEET_SCAN_SECONDS="1") as fleet:
        yield fleet
