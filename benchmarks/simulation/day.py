"""One run: a device, its neighbours, the work and a rule, all from the same seeds."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from benchmarks.simulation.device import Clock, SimulatedDevice
from benchmarks.simulation.lane import COST, Rule, SimulatedLane
from benchmarks.simulation.neighbours import wishes
from benchmarks.simulation.rules import Halving, Oracle
from benchmarks.simulation.work import LENGTHS, Work
from embedfleet.embeddings.memory import MemoryBudget
from embedfleet.embeddings.memory.probing import measure, shapes

CAPACITY = 16_000_000_000
WEIGHTS = 700_000_000
CAP_TOKENS = 131_072
SEED = 7


def budget(hours: float, *, gives_back: bool = True) -> dict[str, Any]:
    """Run the memory budget, with the model that it measures itself at the start."""
    return _run(hours, _measured, gives_back=gives_back)


def oracle(hours: float) -> dict[str, Any]:
    """Run the oracle."""
    return _run(hours, lambda device, _: Oracle(device, CAP_TOKENS), foresees=True)


def halving(hours: float) -> dict[str, Any]:
    """Run what others do: halve after a failure, and no more."""
    return _run(hours, lambda device, _: Halving(device, CAP_TOKENS))


def _measured(device: SimulatedDevice, lane: SimulatedLane) -> MemoryBudget:
    model = measure(
        lane.encode_once, device.give_back, device, shapes(max(LENGTHS), CAP_TOKENS), device.reserved
    )
    return MemoryBudget(model, device, device.clock, CAP_TOKENS)


def _run(
    hours: float, make: Callable[[SimulatedDevice, SimulatedLane], Rule], **options: Any
) -> dict[str, Any]:
    seconds = hours * 3600
    clock = Clock()
    device = SimulatedDevice(CAPACITY, WEIGHTS, wishes(CAPACITY, seconds), clock)
    work = Work(SEED)
    rule = make(device, SimulatedLane(device, work, Oracle(device, CAP_TOKENS)))
    figures = SimulatedLane(device, work, rule, **options).run(seconds)
    found = asdict(figures) | {"ooms": dict(sorted(figures.ooms.items()))}
    found |= {
        "tokens_a_second": figures.tokens / clock.now,
        "tokens_a_batch": figures.tokens / figures.batches,
        "neighbours_share": found.pop("neighbour_seconds") / clock.now / CAPACITY,
        "tasks_finished": work.finished,
        "tasks_failed_for_memory": len(work.failed),
        "splits": getattr(rule, "splits", None),
    }
    if isinstance(rule, MemoryBudget):
        found["model"] = {"measured": asdict(rule.model), "true": asdict(COST)}
    return found
