"""The engines in rounds: who is how quick, and whose vectors are how near to the reference's.

Each contestant has rounds of its own, the reference right before and after: on a machine whose host has other
guests a minute is a long time.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench.corpus import cycled
from benchmarks.bench.process import Contestant, Unavailable
from benchmarks.bench.rounds import Plan, Round, counted, gather, times
from benchmarks.bench.setup import Setup
from benchmarks.engine.contestants import ENGINE, GEMM, INFINITY, Entry, others, ours, peers
from benchmarks.engine.flops import Shape

# Few: the nearer the flanks, the more rounds count where the machine is unsteady.
CHUNKS = 128
# Of the engine, and of everyone else.
PLAN = Plan(wanted=5, most=100, seconds=600.0, welcome=9)
OTHERS_PLAN = Plan(wanted=3, most=40, seconds=1200.0)


@dataclass
class Field:
    """Those who could be started, and why the others could not."""

    running: dict[str, Contestant] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def enter(self, entry: Entry, setup: Setup, stack: ExitStack) -> None:
        """Start one; note why when it can't.

        Raises:
            Unavailable: it can't start, and there is no benchmark without it.
        """
        contestant = Contestant(entry.name, entry.python, entry.module, entry.env, setup.log(entry.name))
        try:
            if entry.absence:
                raise Unavailable(entry.absence)
            stack.enter_context(contestant)
        except Unavailable as reason:
            if entry.is_required:
                raise
            why = str(reason)
        else:
            why = entry.why_not(contestant.facts)
            if not why:
                self.running[entry.name] = contestant
                return
            contestant.stop()
        self.absent[entry.name] = why
        setup.say(f"not here: {entry.name}: {why}")

    def run(self, name: str, texts: str) -> float:
        """Let one encode texts; return the seconds."""
        answer = self.running[name].ask(texts=texts)
        self.answers.setdefault(name, []).append(answer)
        return float(answer["seconds"])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of rounds.

    Attributes:
        texts: what everyone encoded.
        taking_part: who ran.
        reference: whom they are compared with.
        rounds: all of each contestant by name, those that don't count too.
        wanted: how many of them have to count for a figure, by name.
        peaks: answers of `GEMM`, one in each turn, where it takes part.
        vectors: float32[n, dim] by name.
    """

    texts: Sequence[str]
    taking_part: Field
    reference: str
    rounds: Mapping[str, Sequence[Round]]
    wanted: Mapping[str, int]
    peaks: Sequence[Mapping[str, float]]
    vectors: Mapping[str, Any]

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return a row a contestant."""
        return {name: self._row(name) for name in self.vectors}

    def described(self) -> dict[str, list[dict[str, Any]]]:
        """Return the rounds of each contestant for the record."""
        return {
            name: [describe(one) for one in rounds] for name, rounds in self.rounds.items() if name != GEMM
        }

    def _row(self, name: str) -> dict[str, Any]:
        if name == self.reference:
            rounds = [one for rounds in self.rounds.values() for one in rounds]
            seconds = [one.reference for one in rounds]
        else:
            rounds = list(self.rounds[name])
            seconds = [one.seconds[name] for one in counted(rounds) or rounds]
        near = cosines(self.vectors[name], self.vectors[self.reference])
        facts, answers = self.taking_part.running[name].facts, self.taking_part.answers[name]
        return {
            "x": 1.0 if name == self.reference else times(rounds, name, self.wanted[name]),
            "chunks_a_second": len(self.texts) / statistics.median(seconds),
            "cos_min": near[0],
            "cos_mean": near[1],
            "peak_rss_mb": answers[-1]["peak_rss"] / 1e6,
            **{fact: facts[fact] for fact in ("device", "precision", "provider") if facts.get(fact)},
        }


def side_by_side(
    setup: Setup,
    entries: Sequence[Entry],
    texts: Sequence[str],
    plan: Plan,
    others: Plan,
    then: Callable[[Field], None] = lambda _: None,
) -> Outcome:
    """Start the entries, the reference first, and let them encode the texts in rounds.

    Args:
        setup: of this run.
        entries: who takes part; there are no rounds without those that are `is_required`.
        texts: for everyone.
        plan: how many rounds the first one after the reference has; they come before all others.
        others: how many the others have, in turns.
        then: is called after the last round, while all still run.

    Raises:
        Unavailable: a required one can't start, one ended on the way, or no engine runs beside the reference.
    """
    file, reference = setup.texts("engine", texts), entries[0].name
    taking_part, peaks = Field(), list[dict[str, float]]()
    with ExitStack() as stack:
        for entry in entries:
            taking_part.enter(entry, setup, stack)
        encoders = [name for name in taking_part.running if name != GEMM]
        if encoders == [reference]:
            reasons = "; ".join(f"{name}: {why}" for name, why in taking_part.absent.items())
            raise Unavailable(f"no engine runs beside {reference} ({reasons})")
        vectors = {name: _vectors(taking_part.running[name], file, setup) for name in encoders}

        def running(name: str) -> Callable[[], dict[str, float]]:
            return lambda: {name: taking_part.run(name, file)}

        def multiplying() -> dict[str, float]:
            peaks.append(taking_part.running[GEMM].ask())
            return {}

        kinds = {name: running(name) for name in encoders if name != reference}
        if GEMM in taking_part.running:
            kinds[GEMM] = multiplying
        first, *rest = kinds
        rounds, wanted = dict[str, list[Round]](), dict[str, int]()
        for names, how_many in (([first], plan), (rest, others)):
            some = {name: kinds[name] for name in names}
            rounds |= gather(lambda: taking_part.run(reference, file), some, how_many, setup.say)
            wanted |= dict.fromkeys(names, how_many.wanted)
        then(taking_part)
    return Outcome(texts, taking_part, reference, rounds, wanted, peaks, vectors)


def compare(setup: Setup) -> dict[str, Any]:
    """Run the rounds of engines; return figures, a row a contestant, and all that was measured."""
    padding: dict[str, float] = {}
    outcome = side_by_side(
        setup,
        _entries(setup),
        cycled(setup.corpus.mixed, setup.scaled(CHUNKS, 64)),
        setup.plan(PLAN),
        setup.plan(OTHERS_PLAN),
        then=lambda taking_part: padding.update(_padding(taking_part.running[ENGINE], setup)),
    )
    tokens = [len(row) for row in setup.tokenizer.encode(outcome.texts)]
    flops = sum(map(Shape.of(setup.graph.folder / "config.json").flops, tokens))
    gemm = {name: statistics.median(peak[name] for peak in outcome.peaks) for name in ("fp32", "bf16")}
    rows = outcome.rows()
    peak = gemm["bf16" if rows[ENGINE]["precision"] == "bf16" else "fp32"]
    return {
        "chunks": len(outcome.texts),
        "flops_a_token": flops / sum(tokens),
        "gemm": gemm,
        "peak_share": rows[ENGINE]["chunks_a_second"] / len(tokens) * flops / peak,
        "infinity_x": _against(rows, INFINITY),
        "padding": padding,
        "rows": rows,
        "absent": outcome.taking_part.absent,
        "wanted": outcome.wanted,
        "rounds": outcome.described(),
    }


def _against(rows: Mapping[str, Mapping[str, Any]], name: str) -> float | None:
    """Return how many times as quick as another one the engine is; both are known against the reference."""
    engine, other = rows[ENGINE]["x"], rows.get(name, {}).get("x")
    return None if engine is None or other is None else engine / other


def _entries(setup: Setup) -> list[Entry]:
    return [
        *others(setup.torch_environment, setup.weights),
        *ours(setup.own_environment, setup.torch_environment),
        *peers(setup.weights, setup.graph, setup.folder / "fastembed"),
    ]


def _vectors(contestant: Contestant, texts: str, setup: Setup) -> Any:
    """Return float32[n, dim] of a first run, which warms it up, too."""
    path = Path(setup.folder, "vectors.npy")
    contestant.ask(texts=texts, save=str(path))
    return np.load(path)


def _padding(engine: Contestant, setup: Setup) -> dict[str, float]:
    """Return the share of padding in what the engine computes, of both corpora as a whole."""
    found = {}
    for name, texts in (("mixed", setup.corpus.mixed), ("short", setup.corpus.short)):
        answer = engine.ask(texts=setup.texts(f"all-{name}", texts[: setup.scaled(len(texts), 512)]))
        found[name] = answer["padding"] / (answer["padding"] + answer["tokens"])
    return found


def cosines(vectors: Any, reference: Any) -> tuple[float, float]:
    """Return the least and the mean cosine of each row to the reference's row; both float32[n, dim]."""
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(reference, axis=1)
    near = np.sum(vectors * reference, axis=1) / norms
    return float(near.min()), float(near.mean())


def describe(one: Round) -> dict[str, Any]:
    """Return a round for the record."""
    return {"before": one.before, "after": one.after, "counts": one.counts, "seconds": dict(one.seconds)}
