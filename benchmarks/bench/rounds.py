"""Rounds that alternate, and which of them count. Pure, but for the runs that it is given.

On a machine that does other work, or is given less of its host, every figure moves. So nothing is compared
across minutes: the reference runs before and after each round, its two runs are the *flanks*, and a round
whose flanks differ by more than 5 % is rejected, whatever its result.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

MOST_DIFFERENCE = 0.05


@dataclass(frozen=True, slots=True)
class Round:
    """One round.

    Attributes:
        before: seconds of the reference right before.
        after: seconds of the reference right after.
        seconds: name → seconds of what ran between, for the same work as the reference or another.
    """

    before: float
    after: float
    seconds: Mapping[str, float]

    @property
    def difference(self) -> float:
        """By how much the slower flank is over the quicker one; 0.05 is 5 %."""
        return max(self.before, self.after) / min(self.before, self.after) - 1

    @property
    def counts(self) -> bool:
        """Whether the machine did the same before and after."""
        return self.difference <= MOST_DIFFERENCE

    @property
    def reference(self) -> float:
        """Seconds of the reference, the mean of both flanks."""
        return (self.before + self.after) / 2


@dataclass(frozen=True, slots=True)
class Plan:
    """How many rounds.

    Attributes:
        wanted: rounds that count, of each kind; with fewer there is no figure.
        most: rounds of a kind in all; those that are rejected too.
        seconds: after which no further round begins.
        welcome: rounds that count and are taken where the other bounds allow; not fewer than `wanted`.
    """

    wanted: int
    most: int
    seconds: float
    welcome: int = 0


def gather(
    reference: Callable[[], float],
    kinds: Mapping[str, Callable[[], Mapping[str, float]]],
    plan: Plan,
    say: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, list[Round]]:
    """Run rounds of each kind in turns until enough of each count, or the plan's bounds are met.

    The reference runs between all of them: what is one round's second flank is the next one's first.

    Args:
        reference: runs the reference; returns its seconds.
        kinds: name of a kind → runs it; returns seconds by name.
        plan: how many.
        say: takes a line a round.
        clock: seconds that never go back.

    Returns:
        All rounds of each kind, in order, those that don't count too.
    """
    rounds: dict[str, list[Round]] = {kind: [] for kind in kinds}
    began, before = clock(), reference()
    while left := [kind for kind, done in rounds.items() if _wants_more(done, plan)]:
        for kind in left:
            if clock() - began > plan.seconds:
                say(f"no further round begins after {plan.seconds:.0f} s")
                return rounds
            seconds = kinds[kind]()
            after = reference()
            rounds[kind].append(Round(before, after, seconds))
            say(f"{kind}, round {len(rounds[kind])}: {_line(rounds[kind][-1])}")
            before = after
    return rounds


def counted(rounds: Sequence[Round]) -> list[Round]:
    """Return the rounds that count."""
    return [one for one in rounds if one.counts]


def times(rounds: Sequence[Round], name: str, wanted: int, against: str = "") -> float | None:
    """Return how many times as quick as another one is: the median of the rounds that count.

    Args:
        rounds: of one kind.
        name: what is judged; rounds that it is absent from are left out.
        wanted: how many rounds have to count, at least 1.
        against: what it is compared with in each round; the reference when empty.

    Returns:
        None when fewer rounds count.
    """
    ratios = [
        (one.seconds[against] if against else one.reference) / one.seconds[name]
        for one in counted(rounds)
        if name in one.seconds and (not against or against in one.seconds)
    ]
    return statistics.median(ratios) if len(ratios) >= wanted else None


def quickest(rounds: Sequence[Round], names: Sequence[str]) -> str:
    """Return which of the names has the lowest median of seconds."""
    return min(names, key=lambda name: statistics.median(one.seconds[name] for one in rounds))


def _wants_more(done: Sequence[Round], plan: Plan) -> bool:
    return len(counted(done)) < max(plan.wanted, plan.welcome) and len(done) < plan.most


def _line(one: Round) -> str:
    parts = " ".join(f"{name} {seconds:.2f} s" for name, seconds in one.seconds.items())
    verdict = "" if one.counts else f"; REJECTED: more than {MOST_DIFFERENCE:.0%}"
    return f"{parts}; flanks {one.before:.2f} and {one.after:.2f} s, {one.difference:.1%} apart{verdict}"
