"""The face of the blobs: the same whether they are in a folder or in a bucket.

A write is durable and atomic when `put` returns, and any process' next `get`, `exists` or list shows it. A
reader sees a whole blob or none. Of two writers of a key the last wins: no caller needs more, for a key names
its content (a task, a generation), and who may write is decided by the ledger. Lists have no order.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from embedfleet.contracts.errors import ConfigurationError, NotFound
from embedfleet.contracts.versions import is_newer
from embedfleet.runtime.blobs.folder import Folder
from embedfleet.runtime.settings import BlobSettings, load, refused

Record = TypeVar("Record", bound=BaseModel)

_log = logging.getLogger(__name__)


class Store(Protocol):
    """What a folder and a bucket can do.

    Keys are checked before they come here. Each call raises `DependencyDown` where the store can't be reached
    or refuses; `FileNotFoundError` where a blob isn't there.
    """

    @property
    def address(self) -> str:
        """Where it is, for messages; no secret."""

    def put(self, key: str, pieces: Iterable[bytes]) -> None:
        """Store a blob durably and atomically; what `pieces` raises leaves the old one."""

    def pieces(self, key: str) -> Iterator[bytes]:
        """Yield a blob in pieces of some megabytes, all of one version."""

    def file(self, key: str, limit: int) -> AbstractContextManager[Path]:
        """Return a local file with a blob's content, which may be a copy of up to `limit` bytes."""

    def exists(self, key: str) -> bool:
        """Say whether there is such a blob."""

    def delete(self, keys: Sequence[str]) -> None:
        """Remove blobs; one that isn't there is passed over."""

    def ages(self, prefix: str) -> Iterator[tuple[str, float]]:
        """Yield each key under a folder, and the seconds since it was written."""

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys under a folder."""

    def folders(self, prefix: str) -> list[str]:
        """Return the names of the folders directly under a folder."""

    def age(self, key: str) -> float:
        """Return the seconds since a blob was written, by the store's clock."""

    def free_bytes(self) -> int | None:
        """Return how many bytes there is room for; None where there is no limit."""

    def sweep_unfinished(self, seconds: float) -> None:
        """Remove what writers that died left behind longer ago than this."""


class Blobs:
    """Blobs in a folder, or in a bucket. Thread-safe; raises `DependencyDown` where the store refuses.

    Args:
        url: a folder, or an address as `BlobSettings` takes it.

    Raises:
        ConfigurationError: the address can't be used like this.
    """

    def __init__(self, url: str | Path) -> None:
        self._store: Store
        if "://" in str(url):
            # Only who has the extra can import it.
            from embedfleet.runtime.blobs.bucket import Bucket

            self._store = Bucket(str(url))
        else:
            self._store = Folder(url)

    @property
    def address(self) -> str:
        """Where the blobs are, for messages."""
        return self._store.address

    def put(self, key: str, data: bytes | Iterable[bytes]) -> None:
        """Store a blob durably, in place of what is there.

        Raises:
            ValueError: the key would leave the store.
        """
        self._store.put(_checked(key), (data,) if isinstance(data, bytes) else data)

    def get(self, key: str) -> bytes:
        """Return a blob.

        Raises:
            NotFound: there is no such blob.
        """
        return b"".join(self.pieces(key))

    def pieces(self, key: str) -> Iterator[bytes]:
        """Yield a blob in pieces; errors are those of `get`."""
        try:
            yield from self._store.pieces(_checked(key))
        except FileNotFoundError as error:
            raise NotFound(f"no blob {key}", code="no_blob") from error

    def file(self, key: str, limit: int) -> AbstractContextManager[Path]:
        """Return a local file with a blob's content, for as long as the context is open.

        Args:
            key: the blob.
            limit: most bytes that are copied from a bucket.

        Raises:
            NotFound: there is no such blob, in a bucket; in a folder, opening it fails.
            DocumentProcessingError: ``limit_exceeded``, it is larger than that.
        """
        return self._store.file(_checked(key), limit)

    def read(self, kind: type[Record], key: str) -> Record | None:
        """Return the record that a blob holds; None when it is gone, or can't be read.

        One of a newer version is left where it is, for a process of that version; a damaged one is put aside.
        """
        try:
            return kind.model_validate_json(self.get(key), extra="forbid")
        except NotFound:
            return None
        except ValidationError as error:
            if is_newer(error):
                _log.warning("%s is left to a newer version, which wrote it", key)
                return None
            _log.error("%s can't be read; moved to damaged/", key)
            self.move(key, f"damaged/{key}")
            return None

    def exists(self, key: str) -> bool:
        """Say whether there is such a blob."""
        return self._store.exists(_checked(key))

    def move(self, key: str, target: str) -> None:
        """Give a blob another key; nothing happens when it is not there."""
        with suppress(NotFound):
            self.put(target, self.get(key))
            self.delete(key)

    def delete(self, key: str) -> None:
        """Remove a blob; nothing happens when it is not there."""
        self._store.delete([_checked(key)])

    def delete_folder(self, prefix: str) -> None:
        """Remove every blob under a prefix."""
        self._store.delete(list(self.keys(prefix)))

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys under a folder in no order, unfinished writes left out; "" is all."""
        return self._store.keys(_checked(prefix) if prefix else "")

    def ages(self, prefix: str) -> Iterator[tuple[str, float]]:
        """Yield the same keys, each with its age: a bucket tells both in one request a thousand keys."""
        return self._store.ages(_checked(prefix) if prefix else "")

    def sweep_unfinished(self, seconds: float) -> None:
        """Remove what writers that died left behind longer ago than this."""
        self._store.sweep_unfinished(seconds)

    def folders(self, prefix: str) -> list[str]:
        """Return the names of the folders directly under a prefix."""
        return self._store.folders(_checked(prefix))

    def age(self, key: str) -> float:
        """Return seconds since a blob was written, by the clock of the store; 0 when it is gone."""
        with suppress(FileNotFoundError):
            return self._store.age(_checked(key))
        return 0.0

    def check(self) -> None:
        """Raise `DependencyDown` unless a blob can be written."""
        self.put(".check", b"")

    def free_bytes(self) -> int | None:
        """Return how many bytes there is room for; None where there is no limit."""
        return self._store.free_bytes()


def open_blobs() -> Blobs:
    """Return the blobs of FLEET_BLOB_URL.

    Raises:
        SystemExit: they can't be used like this; the sentence is on stderr, as for `load`.
    """
    try:
        return Blobs(load(BlobSettings).blob_url)
    except ConfigurationError as error:
        raise refused(str(error)) from error


def _checked(key: str) -> str:
    """Return a key that stays in the store, whatever it is made of."""
    parts = key.split("/")
    if PurePosixPath(key).is_absolute() or any(part in ("", ".", "..") for part in parts) or "\0" in key:
        raise ValueError(f"blob key {key!r} leaves the store")
    return key
