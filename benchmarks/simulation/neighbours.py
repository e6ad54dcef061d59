"""The other processes on the device: when each wants how many bytes. Drawn from a seed file."""

import json
import random
from pathlib import Path
from typing import Any, NamedTuple

SEED_FILE = Path(__file__).with_name("neighbours.json")


class Wish(NamedTuple):
    """From `at` on (seconds), the neighbour of this number wants to hold so many bytes."""

    at: float
    neighbour: int
    bytes: int


def wishes(capacity: int, seconds: float, file: Path = SEED_FILE) -> list[Wish]:
    """Return the wishes of all neighbours in order of time; together never more than `most_share`.

    Args:
        capacity: bytes of the device.
        seconds: how long the simulation lasts.
        file: seed, kinds of neighbours (bytes, stays and pauses are drawn evenly from the ranges; a stay
            begins in `steps` steps, a second apart) and the most that they want together.
    """
    plan = json.loads(file.read_text("utf-8"))
    drawn = random.Random(plan["seed"])  # noqa: S311 — repeatable on purpose
    asked = sorted(
        wish for number, kind in enumerate(plan["kinds"]) for wish in _of_kind(number, kind, seconds, drawn)
    )
    most, wanted, granted = int(plan["most_share"] * capacity), dict[int, int](), list[Wish]()
    for wish in asked:
        others = sum(count for neighbour, count in wanted.items() if neighbour != wish.neighbour)
        wanted[wish.neighbour] = min(wish.bytes, most - others)
        granted.append(wish._replace(bytes=wanted[wish.neighbour]))
    return granted


def _of_kind(number: int, kind: dict[str, Any], seconds: float, drawn: random.Random) -> list[Wish]:
    found: list[Wish] = []
    at = drawn.uniform(0, kind["pause_seconds"][1])
    while at < seconds:
        size = int(drawn.uniform(*kind["gigabytes"]) * 1e9)
        steps = kind["steps"]
        found += [Wish(at + step, number, size * (step + 1) // steps) for step in range(steps)]
        at += steps + drawn.uniform(*kind["stay_seconds"])
        found.append(Wish(at, number, 0))
        at += drawn.uniform(*kind["pause_seconds"])
    return found
