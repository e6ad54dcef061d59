"""What must hold, and the line that says whether it does. The only place of the bounds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.bench.setup import FULL
from benchmarks.engine.contestants import ENGINE, PEERS

Figures = Mapping[str, float | None]

LINE = (
    "engine_x",
    "peak_share",
    "cos_min",
    "padding",
    "stage_share_1",
    "stage_share_10",
    "stage_share_150",
    "path_x_plain",
)
# A worker's memory is judged after so many chunks; with fewer a run of full size has no figure of it.
LEAST_CHUNKS = 20_000


@dataclass(frozen=True, slots=True)
class Bound:
    """One figure's bound.

    Attributes:
        figure: its name.
        bound: at least, or at most, this.
        is_most: it is the most.
        what: the figure in words.
        needs_amx: holds only where the CPU has AMX-bf16.
        is_optional: the figure may be absent where what it is compared with is: in a quick run.
    """

    figure: str
    bound: float
    what: str
    is_most: bool = False
    needs_amx: bool = False
    is_optional: bool = False

    def holds(self, value: float) -> bool:
        """Say whether a value is within it."""
        return value <= self.bound if self.is_most else value >= self.bound

    def __str__(self) -> str:
        return f"{'≤' if self.is_most else '≥'} {self.bound:g}"


BOUNDS = (
    Bound("engine_x", 4.0, "engine / sentence-transformers fp32, batches of 32", needs_amx=True),
    Bound("cos_min", 0.999, "least cosine of the engine's vectors to those of sentence-transformers"),
    Bound("onnx_fp32_x", 1.25, "ONNX Runtime fp32 / sentence-transformers fp32"),
    Bound("onnx_fp32_cos_min", 0.99999, "least cosine of ONNX Runtime fp32"),
    Bound("infinity_x", 4.0, "engine / Infinity (torch)", needs_amx=True, is_optional=True),
    Bound("padding", 0.04, "padding in what the lane computes, mixed corpus", is_most=True),
    Bound("padding_short", 0.11, "the same, short documents", is_most=True),
    Bound("stage_share_150", 0.93, "embedding stage / bare engine, documents of 150 chunks"),
    Bound("stage_share_10", 0.88, "embedding stage / bare engine, documents of 10 chunks"),
    Bound("stage_share_1", 0.60, "embedding stage / bare engine, documents of 1 chunk"),
    Bound("path_x_plain", 2.5, "whole path / plain design, documents of 10 chunks", needs_amx=True),
    Bound("worker_rss_mb", 600, "the most that the embedding worker was resident with, MB", is_most=True),
    Bound("worker_rss_growth", 1.05, "its memory at the end / after a third of the chunks", is_most=True),
)


def applies(bound: Bound, has_amx: bool) -> bool:
    """Say whether a bound holds on this machine."""
    return has_amx or not bound.needs_amx


def missed(figures: Figures, has_amx: bool) -> list[str]:
    """Return the bounds that apply and don't hold, each in a few words."""
    found = []
    for bound in BOUNDS:
        value = figures.get(bound.figure)
        if not applies(bound, has_amx) or (bound.is_optional and bound.figure not in figures):
            continue
        if value is None:
            found.append(f"{bound.figure} was not measured")
        elif not bound.holds(value):
            found.append(f"{bound.figure}={value:.5g}, wanted {bound}")
    return found


def faults(record: Mapping[str, Any]) -> list[str]:
    """Return why a record is not one of success: what it lacks, then the bounds that it misses.

    Args:
        record: as in `results/bench.json`.
    """
    return [*_lacking(record), *missed(record["figures"], record["machine"]["amx_bf16"])]


def too_few(name: str, wanted: int, rounds: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a sentence when fewer of the rounds count than are wanted.

    Args:
        name: of what ran in them.
        wanted: how many have to count.
        rounds: of a record, each with `counts`.
    """
    good = sum(bool(one["counts"]) for one in rounds)
    if good < wanted:
        yield (
            f"{name}: {good} of {len(rounds)} rounds count and {wanted} are wanted: "
            "run it again when the machine has nothing else to do"
        )


def short(value: float) -> str:
    """Return a figure as people read it; what is just below 1, a cosine, isn't rounded to it."""
    return f"{value:.{5 if 0.999 < value < 1 else 4}g}"


def last_line(record: Mapping[str, Any], found: Sequence[str]) -> str:
    """Return the line that the benchmark ends with; only one of full size begins with `bench ok:`.

    Args:
        record: as in `results/bench.json`.
        found: its `faults`.
    """
    figures, absent = record["figures"], _absent_peers(record)
    words = " ".join(f"{name}={_shown(figures.get(name))}" for name in LINE)
    without = f", without {' and '.join(absent)}" if absent else ""
    title = "" if record["size"] == FULL else f" (SIZE={record['size']:g}{without})"
    return f"bench FAILED{title}: {'; '.join(found)} ({words})" if found else f"bench ok{title}: {words}"


def _lacking(record: Mapping[str, Any]) -> Iterator[str]:
    engine, stage, path = record["engine"], record["stage"], record["path"]
    yield from too_few(ENGINE, engine["wanted"][ENGINE], engine["rounds"][ENGINE])
    for kind, rounds in stage["rounds"].items():
        yield from too_few(kind, stage["wanted"], rounds)
    yield from too_few("whole path", path["wanted"], path["rounds"])
    if record["size"] == FULL:
        yield from (f"{name}: {engine['absent'][name]}" for name in _absent_peers(record))
        if (done := record["figures"]["worker_chunks"]) < LEAST_CHUNKS:
            yield f"the worker embedded {done:.0f} chunks, and its memory is judged after {LEAST_CHUNKS}"


def _absent_peers(record: Mapping[str, Any]) -> list[str]:
    return [name for name in PEERS if name in record["engine"]["absent"]]


def _shown(value: float | None) -> str:
    return "none" if value is None else short(value)
