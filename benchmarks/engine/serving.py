"""The contestants' side of `benchmarks.bench.process`; standard library and numpy only."""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np

Orders = Callable[[dict[str, Any]], Mapping[str, Any]]


def own_stdout() -> TextIO:
    """Return a stream for answers; from now on whatever else is printed goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def serve(answers: TextIO, facts: Mapping[str, Any], run: Orders) -> None:
    """Say that all is loaded, then answer one order after the other until there are no more.

    Args:
        answers: from `own_stdout`, taken before any library was imported.
        facts: what the benchmark should know.
        run: carries out an order.
    """
    for answer in _answers(facts, run):
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def encoding(encode: Callable[[list[str]], Any]) -> Orders:
    """Return how to carry out `{"texts": FILE, "save": FILE?}` with a function from texts to vectors.

    The texts are read, and the vectors saved, outside the time that counts.
    """
    kept: dict[str, list[str]] = {}

    def run(order: dict[str, Any]) -> dict[str, Any]:
        name = order["texts"]
        if name not in kept:
            kept[name] = json.loads(Path(name).read_text("utf-8"))
        began = time.perf_counter()
        vectors = encode(kept[name])
        seconds = time.perf_counter() - began
        if order.get("save"):
            np.save(order["save"], np.asarray(vectors, dtype=np.float32))
        return {"seconds": seconds, "peak_rss": peak_rss()}

    return run


def peak_rss() -> int:
    """Return the most bytes that this process was resident with (Linux)."""
    lines = Path("/proc/self/status").read_text("ascii", "replace").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def _answers(facts: Mapping[str, Any], run: Orders) -> Any:
    yield {**facts, "pid": os.getpid()}
    for line in sys.stdin:
        yield run(json.loads(line))
