"""One collection: a shard of the engine in a folder of its own, made and removed in one step each.

A folder holds ``meta.json`` (written once, before the folder gets its name) and the engine's ``shard``. An
update is in the engine's write-ahead log before it is acknowledged, so it survives a kill -9.
"""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import qdrant_edge as edge

from embedfleet.contracts.errors import ConfigurationError, FleetError, InvalidRequest, NotFound
from embedfleet.runtime.blobs import sync_folder

Answer = TypeVar("Answer")

FORMAT = 1
# One pool of this many threads a collection; the engine's default is one thread a core, for each of them.
SEARCH_THREADS = 2
# 0: never build an HNSW graph. `optimize` holds the GIL, so a build would stop the server for seconds.
INDEXING_THRESHOLD = 0


class EngineFailure(FleetError):
    """The storage engine failed: a full disk, a damaged file."""

    default_code = "engine_failed"


class Collection:
    """An open collection. Safe for many threads: the engine has its own locks and lets go of the GIL.

    Attributes:
        name: its name, which is its folder's.
        size: length of its vectors.
    """

    def __init__(self, folder: Path) -> None:
        """Open a folder.

        Raises:
            ConfigurationError: the folder is damaged, or of another version.
        """
        self.name = folder.name
        self.folder = folder
        try:
            meta = json.loads((folder / "meta.json").read_bytes())
            if meta["format"] != FORMAT:
                raise ValueError(f"it has format {meta['format']}, this version reads {FORMAT}")
            self.size = int(meta["size"])
            self._shard = edge.EdgeShard.load(str(folder / "shard"), _config(self.size))
            self._shard.optimize()
        except Exception as error:
            raise ConfigurationError(
                f"collection {folder} can't be opened ({error}): restore the folder or move it away"
            ) from error
        self._unflushed = threading.Event()
        self._closed = False

    def update(self, operation: Any) -> None:
        """Apply a change; it is durable and visible when this returns."""
        self._ask(lambda: self._shard.update(operation))
        self._unflushed.set()

    def count(self, request: Any) -> int:
        """Count points."""
        return self._ask(lambda: self._shard.count(request))

    def query(self, request: Any) -> list[Any]:
        """Return the nearest points, best first."""
        return self._ask(lambda: self._shard.query(request))

    def scroll(self, request: Any) -> tuple[list[Any], Any]:
        """Return a page of points and the id that the next one starts with, or None."""
        return self._ask(lambda: self._shard.scroll(request))

    def retrieve(self, ids: list[Any], with_payload: Any, with_vector: bool) -> list[Any]:
        """Return those of the points that exist."""
        return self._ask(lambda: self._shard.retrieve(ids, with_payload, with_vector))

    def info(self) -> Any:
        """Return the engine's figures and payload indexes."""
        return self._ask(self._shard.info)

    def flush(self) -> None:
        """Write changes since the last flush out of the log, which a start then needn't replay."""
        if self._unflushed.is_set():
            self._unflushed.clear()
            self._ask(self._shard.flush)

    def close(self) -> None:
        """Flush and let go of the files; calls that still run end with NotFound."""
        self._closed = True
        self._shard.close()

    def _ask(self, call: Callable[[], Answer]) -> Answer:
        try:
            return call()
        except Exception as error:
            raise self._named(str(error)) from error
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # a Rust panic; pyo3 doesn't export its class
                raise
            raise EngineFailure(f"the storage engine panicked: {error}") from error

    def _named(self, message: str) -> FleetError:
        if self._closed:
            return absent(self.name)
        if message.startswith("Service"):
            return EngineFailure(message)
        return InvalidRequest(message, status=400)


def absent(name: str) -> NotFound:
    """Return the error that a collection isn't there, in Qdrant's words."""
    return NotFound(f"Not found: Collection `{name}` doesn't exist!")


def write_new(folder: Path, size: int) -> None:
    """Write the folder of an empty collection, fsynced.

    Args:
        folder: must not exist; the caller gives it its name when it is whole.
        size: length of the vectors.
    """
    folder.mkdir()
    shard = edge.EdgeShard.create(str(folder / "shard"), _config(size))
    shard.flush()
    shard.close()
    with (folder / "meta.json").open("w") as file:
        json.dump({"format": FORMAT, "size": size, "distance": "Cosine"}, file)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)


def _config(size: int) -> Any:
    return edge.EdgeConfig(
        vectors=edge.EdgeVectorParams(size=size, distance=edge.Distance.Cosine),
        optimizers=edge.EdgeOptimizersConfig(indexing_threshold=INDEXING_THRESHOLD),
        max_search_threads=SEARCH_THREADS,
    )
