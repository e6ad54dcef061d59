"""Which token budget is fastest, where memory is not what binds: on a CPU, batches beyond its caches lose.

Measured on 2 cores with AMX (the design's table): a budget of 1024 gave 1.44 times the plain engine, one of
4096 gave 1.10 times; the best differs between machines and providers. Pure: no clock, no randomness.
"""

import statistics
from collections.abc import Sequence

BUDGETS = (512, 1024, 2048, 4096)
ROUND_BATCHES = 20
BETTER = 1.05
REST_BATCHES = 64
LONGEST_REST_BATCHES = 4096
THIN_BATCHES = 4 * ROUND_BATCHES


class ThroughputTuner:
    """Climbs to the token budget with the most tokens a second, one neighbour at a time.

    A round is `ROUND_BATCHES` batches with one budget; its figure is their median, so that one batch that the
    machine held up counts for nothing. A trial is three rounds: the budget in use, a neighbour, and the one
    in use again; the neighbour wins when it is 5 % better than both, which drift of the machine alone can't
    give. After trials that were lost both ways, the next ones wait, twice as long each time, at most 4,096
    batches: then one batch in 100 is spent on budgets that are not the best. A win makes the waits a quarter.
    A neighbour that the work doesn't fill, so that its batches are thin for `THIN_BATCHES`, has lost.

    Owned by `Sizing`, which calls it from one thread at a time.

    Args:
        budgets: tokens to choose among, ascending.
        start: the first to use; the nearest of `budgets` is taken.
        most: most that may be chosen (FLEET_MAX_BATCH_TOKENS); below the smallest of
            `budgets` it is the one choice.
    """

    def __init__(self, budgets: Sequence[int] = BUDGETS, start: int = 1024, most: int | None = None) -> None:
        allowed = [one for one in budgets if most is None or one <= most]
        self._budgets = tuple(allowed or [most or min(budgets)])
        self._best = min(range(len(self._budgets)), key=lambda at: abs(self._budgets[at] - start))
        self._direction = 1
        self._lost = 0
        self._rest = REST_BATCHES
        self._resting = 0
        self._thin = 0
        self._rounds: list[float] = []
        self._figures: list[float] = []

    @property
    def choice(self) -> int:
        """Return the token budget of the next batch."""
        return self._budgets[self._neighbour() if self._on_trial else self._best]

    def record(self, padded: int, tokens: int, seconds: float) -> None:
        """Learn what a batch took. Thin ones are passed over: they say nothing of a budget.

        Args:
            padded: tokens of the batch, padding included.
            tokens: the same without padding; these are what is wanted many of.
            seconds: time in the encoder, > 0.
        """
        if 4 * padded < 3 * self.choice or seconds <= 0:
            self._pass_over()
            return
        if self._resting:
            self._resting -= 1
            return
        self._figures.append(tokens / seconds)
        if len(self._figures) == ROUND_BATCHES:
            self._rounds.append(statistics.median(self._figures))
            self._figures.clear()
            self._thin = 0
            if len(self._rounds) == 3:
                self._judge()

    @property
    def _on_trial(self) -> bool:
        return not self._resting and len(self._rounds) == 1

    def _pass_over(self) -> None:
        """Give a neighbour up that is never filled: else it would be the choice for ever."""
        if not self._on_trial:
            return
        self._thin += 1
        if self._thin == THIN_BATCHES:
            self._thin = 0
            self._figures.clear()
            self._rounds.clear()
            self._lose()

    def _neighbour(self) -> int:
        at = self._best + self._direction
        return at if 0 <= at < len(self._budgets) else self._best

    def _judge(self) -> None:
        before, other, after = self._rounds
        self._rounds.clear()
        if self._neighbour() != self._best and other >= BETTER * max(before, after):
            self._best = self._neighbour()
            self._lost, self._rest = 0, max(REST_BATCHES, self._rest // 4)
            return
        self._lose()

    def _lose(self) -> None:
        self._direction = -self._direction
        self._lost += 1
        if self._lost % 2 == 0:
            self._resting = self._rest
            self._rest = min(2 * self._rest, LONGEST_REST_BATCHES)
