"""Why the device doesn't serve some rows now, or none at all: others hold its memory, or it has failed."""

from collections.abc import Callable

import numpy as np

from embedfleet.contracts.errors import DependencyDown, EmbeddingError
from embedfleet.embeddings.shortage import Shortages
from embedfleet.embeddings.sizing import Sizing
from embedfleet.encoders.base import OUT_OF_MEMORY, Encoder


class Outages:
    """What the lane knows of them; its threads tell it, the worker's pool asks.

    Args:
        encoder: the lane's.
        sizing: the lane's.
        clock: seconds that never go back.

    Attributes:
        shortages: of memory, which others hold.
        failure: why the device serves no row at all, as far as is known; "" while it does.
    """

    def __init__(self, encoder: Encoder, sizing: Sizing, clock: Callable[[], float]) -> None:
        self._encoder = encoder
        self._sizing = sizing
        self.shortages = Shortages(clock)
        self.failure = ""

    def check(self) -> None:
        """Ask whether the device serves again the rows that were handed back; from any thread.

        Raises:
            DependencyDown: others still hold its memory, or it has failed.
            EmbeddingError: it no longer answers.
        """
        if self.failure:
            raise self.fails()
        short = self.shortages.refusing
        if short is None:
            return
        if not self._sizing.has_room(short.length):
            raise self.others_hold(short.length)
        self.shortages.end(short)

    def serves_none(self) -> bool:
        """Ask the device for the smallest row, after one failed alone; remember and say if that fails."""
        self.failure = self._why_none_passes()
        return bool(self.failure)

    def fails(self) -> DependencyDown:
        """Return the error of rows that a device can't serve which serves none."""
        why = f"it serves no row ({self.failure}); the worker starts afresh"
        return DependencyDown("device", self._encoder.device, why)

    def others_hold(self, length: int) -> DependencyDown:
        """Return the error of a row so long, for which others leave no room."""
        return DependencyDown(
            "memory",
            self._encoder.device,
            f"there was room at the start, and now not even for one chunk of {length} tokens; "
            "end what else uses the device, or give the worker a device of its own",
        )

    def _why_none_passes(self) -> str:
        """Return why not even the smallest row passes; "" when it does, or finds the device only full."""
        try:
            self._sizing.has_room(1)
            vectors = self._encoder.encode(np.zeros((1, 1), np.int64), np.ones(1, np.int32))
        except Exception as error:
            is_full = isinstance(error, EmbeddingError) and error.code == OUT_OF_MEMORY
            return "" if is_full else str(error) or type(error).__name__
        return "" if np.isfinite(vectors).all() else "its vectors hold NaN or infinity"
