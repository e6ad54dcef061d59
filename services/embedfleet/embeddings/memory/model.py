"""What a batch costs in memory, fitted from a few measured shapes. Pure.

``bytes = fixed + per_token·rows·length + per_pair·rows·length²``

`length` is the padded length of the batch. The linear term is activations; the quadratic one is attention
scores, which fused kernels don't have (it is then 0); the fixed one is workspaces of the libraries. Weights
are no part of it: they are there before and after. The form is that of the transformer encoder (one layer's
activations at a time, ``rows × heads × length²`` scores); the project measures only the three factors.
"""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Which factors (0 fixed, 1 per token, 2 per pair) a fit may have; of two as good the earlier one is taken.
_SETS = ((1,), (2,), (0,), (1, 2), (0, 1), (0, 2), (0, 1, 2))
# Of all bytes measured: by less two fits differ only through rounding.
_ROUNDING = 1e-9
UNLIMITED = sys.maxsize


@dataclass(frozen=True, slots=True)
class Probe:
    """One measured shape.

    Attributes:
        rows: rows of the batch.
        length: padded length, tokens.
        bytes: most bytes that the batch held beyond what was held before it.
    """

    rows: int
    length: int
    bytes: int


@dataclass(frozen=True, slots=True)
class MemoryModel:
    """The three factors, each ≥ 0: so the cost never falls as rows or length grow.

    Attributes:
        fixed: bytes a batch.
        per_token: bytes a row and token.
        per_pair: bytes a row and pair of tokens.
    """

    fixed: float
    per_token: float
    per_pair: float

    def bytes(self, rows: int, length: int) -> int:
        """Return the bytes that a batch of this shape needs, rounded up."""
        return math.ceil(self.fixed + rows * self._row(length))

    def rows_within(self, limit: float, length: int) -> int:
        """Return the most rows of this length that need at most `limit` bytes; `UNLIMITED` if any do."""
        if limit < self.bytes(0, length):
            return 0
        row = self._row(length)
        if row <= 0 or (limit - self.fixed) / row >= UNLIMITED:
            return UNLIMITED
        rows = int((limit - self.fixed) / row)
        return rows if self.bytes(rows, length) <= limit else max(0, rows - 1)

    def _row(self, length: int) -> float:
        return self.per_token * length + self.per_pair * length * length


def fit(probes: Sequence[Probe]) -> MemoryModel:
    """Return the non-negative least squares fit, raised until no probe costs more than it says.

    Errors count in bytes, so that large shapes decide: those run out of memory, and small ones hide in what
    the allocator held before.

    With three factors the best non-negative fit is found by trying each set of them: at the optimum the
    factors above 0 are the ordinary least squares fit of their own columns. Where too few shapes leave
    several as good, all is put down to tokens: as a fixed cost it would say that any batch fits.

    Args:
        probes: at least one shape; three or four that differ in rows and in length tell the terms apart.

    Raises:
        ValueError: there is no probe.
    """
    if not probes:
        raise ValueError("a memory model needs at least one probe")
    columns = np.array([[1.0, one.rows * one.length, one.rows * one.length**2] for one in probes])
    measured = np.array([float(one.bytes) for one in probes])
    scale = columns.max(axis=0)  # columns of like size: else rounding decides
    best, least = np.zeros(len(scale)), float(np.linalg.norm(measured))
    same = _ROUNDING * least
    for terms in _SETS:
        factors = _least_squares(columns / scale, measured, terms)
        error = float(np.linalg.norm(columns / scale @ factors - measured))
        if factors.min() >= 0 and error < least - same:
            best, least = factors, error
    said = columns / scale @ best
    short = max(
        (float(real / told) for real, told in zip(measured, said, strict=True) if told > 0), default=1.0
    )
    fixed, per_token, per_pair = best / scale * max(1.0, short)
    return MemoryModel(float(fixed), float(per_token), float(per_pair))


def _least_squares(
    columns: NDArray[np.float64], measured: NDArray[np.float64], terms: tuple[int, ...]
) -> NDArray[np.float64]:
    factors = np.zeros(columns.shape[1])
    factors[list(terms)] = np.linalg.lstsq(columns[:, list(terms)], measured, rcond=None)[0]
    return factors
