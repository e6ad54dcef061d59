"""A fleet as `embedfleet up` starts it, for as long as a measurement takes."""

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from embedfleet.local.child import Child
from embedfleet.local.datadir import DataDir, FleetState
from embedfleet.local.members import python_module

START_SECONDS = 240
POLL_SECONDS = 0.05
COLLECTION = "bench"
# The user's own servers would take part in the measurement.
NOT_INHERITED = (
    *("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND", "QDRANT_URL", "FLEET_BLOB_URL"),
    *("FLEET_API_KEYS", "FLEET_URL"),
)


class Fleet:
    """A running fleet; a context manager.

    Args:
        folder: of its data; its logs are in `logs` there.
        env: its settings beyond the defaults.

    Attributes:
        state: its addresses, once it is up.
        data: its data folder.
    """

    state: FleetState

    def __init__(self, folder: Path, **env: str) -> None:
        self.data = DataDir(folder)
        kept = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
        command = python_module("embedfleet.cli", "up", "--json", "--port", "0", "--data-dir", str(folder))
        # Above what its own children get for their stop.
        self._child = Child(
            "fleet", command, log=folder.with_suffix(".log"), env={**kept, **env}, stop_seconds=60
        )

    def __enter__(self) -> Self:
        self._child.start()
        deadline = time.monotonic() + START_SECONDS
        while (state := self.data.running()) is None:
            if self._child.poll() is not None or time.monotonic() > deadline:
                self._child.stop()
                raise RuntimeError(f"the fleet did not start: {self._child.tail(5)}")
            time.sleep(POLL_SECONDS)
        self.state = state
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.stop()

    def worker_rss(self) -> tuple[int, int]:
        """Return the bytes that the embedding worker is resident with now, and at most so far (Linux).

        Raises:
            RuntimeError: the worker that was started with the fleet has ended; another's memory is not asked.
        """
        try:
            status = Path(f"/proc/{self.state.pids['embeddings']}/status").read_text("ascii", "replace")
        except OSError:
            raise RuntimeError("the embedding worker ended on the way; its log says why") from None
        lines = status.splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        now, most = (int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
        return now, most


def points(qdrant: httpx.Client, collection: str) -> int:
    """Return how many points a collection of a vector store has; 0 when there is none."""
    answer = qdrant.post(f"/collections/{collection}/points/count", json={"exact": True})
    if answer.status_code == httpx.codes.NOT_FOUND:
        return 0
    return int(answer.raise_for_status().json()["result"]["count"])
