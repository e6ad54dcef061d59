"""The embedding stage in rounds: documents of 150, 10 and 1 chunks, the bare engine between them.

The bare engine cuts the same chunks into tokens and encodes them, in a process of its own with the worker's
settings. Its process lies idle while the stage runs, and the fleet while the bare engine runs.
"""

from collections.abc import Sequence
from typing import Any

from benchmarks.bench.bounds import LEAST_CHUNKS
from benchmarks.bench.corpus import cycled
from benchmarks.bench.process import Contestant
from benchmarks.bench.rounds import Plan, gather, times
from benchmarks.bench.setup import FULL, Setup
from benchmarks.engine.compare import describe
from benchmarks.stage.fleet import COLLECTION, Fleet
from benchmarks.stage.queued import Early, Stage
from embedfleet.runtime.blobs import Blobs

SIZES = (150, 10, 1)
CHUNKS = 900
PLAN = Plan(wanted=3, most=30, seconds=1500.0, welcome=7)
TRIES = 3
WARM_UP_CHUNKS = 300


def compare(setup: Setup, fleet: Fleet, bare: Contestant) -> dict[str, Any]:
    """Run the rounds; return shares by size, the worker's memory on the way, and all that was measured."""
    count = max(SIZES[0], setup.scaled(CHUNKS) // SIZES[0] * SIZES[0])
    texts = cycled(setup.corpus.mixed, count)
    file = setup.texts("stage", texts)
    stage = Stage(
        fleet.state.redis, Blobs(fleet.data.blobs), COLLECTION, setup.graph.model_key, setup.tokenizer
    )
    memory: list[dict[str, int]] = []

    def of_size(size: int, some: Sequence[str] = texts) -> dict[str, float]:
        seconds = _run(stage, some, size)
        done = len(some) + (memory[-1]["chunks"] if memory else 0)
        now, most = fleet.worker_rss()
        memory.append({"chunks": done, "rss": now, "peak_rss": most})
        return {_name(size): seconds}

    for size in SIZES:
        of_size(size, texts[:WARM_UP_CHUNKS])

    def reference() -> float:
        stage.settle()  # else the janitor would work beside it, for the documents of the round before
        return float(bare.ask(texts=file)["seconds"])

    reference()
    plan = setup.plan(PLAN)
    kinds = {_name(size): lambda size=size: of_size(size) for size in SIZES}
    rounds = gather(reference, kinds, plan, setup.say)
    while setup.size == FULL and memory[-1]["chunks"] < LEAST_CHUNKS:  # for the figure of its memory
        of_size(SIZES[1])
    stage.close()
    return {
        "chunks": count,
        "shares": {str(size): times(rounds[_name(size)], _name(size), plan.wanted) for size in SIZES},
        "rounds": {kind: [describe(one) for one in found] for kind, found in rounds.items()},
        "wanted": plan.wanted,
        "memory": memory,
    }


def _run(stage: Stage, texts: Sequence[str], size: int) -> float:
    for _ in range(TRIES):
        try:
            return stage.run(texts, size)
        except Early:
            continue
    raise RuntimeError(f"the janitor published tasks before all of them were queued, {TRIES} times in a row")


def _name(size: int) -> str:
    return f"stage, documents of {size}"
