"""The short form of `make chaos`: one stack with leases of five seconds, eight scenarios."""

import pytest

from tests.chaos.scenarios import SHORT
from tests.chaos.stack import Stack

pytestmark = [pytest.mark.chaos, pytest.mark.e2e, pytest.mark.xdist_group("chaos")]

SEED = 1


@pytest.mark.parametrize("name", SHORT)
def test_scenario(name: str, stack: Stack) -> None:
    stack.wait_ready()
    assert SHORT[name](stack, SEED).faults == []
