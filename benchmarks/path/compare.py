"""The whole path in rounds: our fleet, the plain design with as many processes as cores, and with one."""

from contextlib import ExitStack
from typing import Any

from benchmarks.bench.machine import threads
from benchmarks.bench.process import Contestant
from benchmarks.bench.rounds import Plan, counted, gather, quickest, times
from benchmarks.bench.setup import Setup
from benchmarks.engine.compare import describe
from benchmarks.path.servers import Design, ours, plain
from benchmarks.path.texts import text_files
from benchmarks.stage.fleet import Fleet
from embedfleet.documents.tokens import ModelTokens

FILES = 50
CHUNKS_A_FILE = 10
FLANK_CHUNKS = 384
PLAN = Plan(wanted=3, most=30, seconds=1200.0, welcome=7)
# 0 and 1 are the fleet's and the stage's.
DATABASES = (2, 3)


def compare(setup: Setup, fleet: Fleet, bare: Contestant) -> dict[str, Any]:
    """Run the rounds; return how many times as quick as the plain design the fleet is, and the rounds."""
    meter = ModelTokens.load(setup.graph.tokenizer)
    paragraphs, count = setup.corpus.mixed, setup.scaled(FILES, 8)
    files = list(text_files(paragraphs, count, CHUNKS_A_FILE, meter, setup.graph.max_tokens))
    flank = setup.texts("path", paragraphs[: setup.scaled(FLANK_CHUNKS, 64)])
    done = 0

    def everyone() -> dict[str, float]:
        nonlocal done
        done += 1
        return {design.name: design.run(files, f"round-{done}") for design in designs}

    with ExitStack() as stack:
        kinds = sorted({threads(), 1}, reverse=True)
        own = stack.enter_context(ours(fleet))
        rivals = [
            stack.enter_context(plain(setup, fleet, processes, database))
            for processes, database in zip(kinds, DATABASES, strict=False)
        ]
        designs: list[Design] = [own, *rivals]
        for design in designs:
            design.run(files[:1], "warm-up-1")
            # So many that each of a worker's processes gets some.
            design.run(files[: 8 * threads()], "warm-up-2")
        bare.ask(texts=flank)
        plan = setup.plan(PLAN)
        reference = lambda: float(bare.ask(texts=flank)["seconds"])  # noqa: E731
        rounds = gather(reference, {"path": everyone}, plan, setup.say)["path"]
    best = quickest(counted(rounds) or rounds, [rival.name for rival in rivals])
    return {
        "files": len(files),
        "chunks": sum(file.chunks for file in files),
        "best_plain": best,
        "x_plain": times(rounds, designs[0].name, plan.wanted, best),
        "wanted": plan.wanted,
        "rounds": [describe(one) for one in rounds],
    }
