"""One scenario in a stack of its own."""

import time
import traceback
from pathlib import Path

from tests.chaos.judge.plants import PLANTS
from tests.chaos.judge.report import Result
from tests.chaos.scenarios import Scenario
from tests.chaos.stack import Shape, Stack


def run(name: str, scenario: Scenario, folder: Path, shape: Shape, seed: int, plant: str = "") -> Result:
    """Run one scenario; what it raises becomes a problem of its result."""
    start = time.monotonic()
    result = Result(name)
    try:
        with Stack(folder, shape) as stack:
            stack.before_check = PLANTS.get(plant)
            result = scenario(stack, seed)
    except Exception as error:
        traceback.print_exc()
        result.problems.append(f"it broke off: {error}")
    result.seconds = time.monotonic() - start
    return result
