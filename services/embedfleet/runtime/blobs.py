"""Blobs: uploaded files, chunk files and durable records, in a folder that api and workers share.

A write is durable and atomic when `put` returns: data fsynced under a temporary name, renamed, and
the folder fsynced. A reader sees a whole blob or none.

==========================================================  =================================================
``uploads/<tenant>/<document>/<task><extension>``           the file as it was uploaded
``pending/<task>``                                          accepted and not ended: the janitor's list
``documents/<tenant>/<document>.json``                      the record of a document that search shows
``chunks/<tenant>/<document>/<generation>/<part>``          chunk file of one embedding task
``revoked/<task>``                                          revoked, and Redis may not have it on disk yet
``handed_back/<task>.<fence>.<run>``                        a run that ended, and Redis may not know it
``deleted/<tenant>/<collection>/<document>/<generation>``   a tombstone: what the janitor still has to remove
==========================================================  =================================================
"""

import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from embedfleet.contracts.documents import Document
from embedfleet.contracts.errors import DependencyDown, NotFound
from embedfleet.contracts.versions import is_newer

NEW_PREFIX = ".new-"
PRUNE_RACES = 100
# How long the clock of the disk is taken as known.
PROBE_SECONDS = 60.0

Record = TypeVar("Record", bound=BaseModel)

_log = logging.getLogger(__name__)


def upload_key(tenant: str, document_id: str, task_id: str, extension: str) -> str:
    """Return where an uploaded file is kept; the extension has its dot."""
    return f"uploads/{tenant}/{document_id}/{task_id}{extension}"


def pending_key(task_id: str) -> str:
    """Return where the manifest of an accepted, unfinished upload is kept."""
    return f"pending/{task_id}"


def revoked_key(task_id: str) -> str:
    """Return where it is noted that an upload was revoked."""
    return f"revoked/{task_id}"


def handed_back_key(task_id: str, fence: int, owner: str) -> str:
    """Return where it is noted that a run has ended, and Redis may not know it yet.

    Each run has a note of its own; the version before kept one a task, without the fence.
    """
    return f"handed_back/{task_id}.{fence}.{owner.rpartition(':')[2]}"


def upload_folder(tenant: str, document_id: str) -> str:
    """Return the folder of all uploaded files of a document."""
    return f"uploads/{tenant}/{document_id}"


def task_of_upload(key: str) -> str:
    """Return the task that an uploaded file belongs to."""
    return key.rsplit("/", 1)[1].split(".", 1)[0]


def record_key(document: Document) -> str:
    """Return where the durable copy of a document's record is kept."""
    return f"documents/{document.tenant}/{document.id}.json"


def chunk_folder(document: Document) -> str:
    """Return the folder of the chunk files of all generations of a document."""
    return f"chunks/{document.tenant}/{document.id}"


def chunk_prefix(document: Document) -> str:
    """Return the folder of a generation's chunk files."""
    return f"{chunk_folder(document)}/{document.generation}"


class Blobs:
    """A folder of blobs. Thread-safe; raises `DependencyDown` where the disk refuses."""

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root).expanduser().resolve()
        self._disk_time, self._probe_at = 0.0, 0.0

    @property
    def address(self) -> str:
        """Where the blobs are, for messages."""
        return str(self._root)

    def path(self, key: str) -> Path:
        """Return the file of a key; it need not exist.

        Raises:
            ValueError: the key would leave the folder.
        """
        path = self._root / key
        # Judged by its words: following links through all folders took as long as a small read. Nobody who
        # names a key can make a link.
        if ".." in path.parts or not path.is_relative_to(self._root):
            raise ValueError(f"blob key {key!r} leaves the folder")
        return path

    def put(self, key: str, data: bytes | Iterable[bytes]) -> None:
        """Store a blob durably, in place of what is there."""
        path = self.path(key)
        pieces = (data,) if isinstance(data, bytes) else data
        with self._disk():
            descriptor, temporary = _open_new(path.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    for piece in pieces:
                        file.write(piece)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)
                raise
            sync_folder(path.parent)

    def get(self, key: str) -> bytes:
        """Return a blob.

        Raises:
            NotFound: there is no such blob.
        """
        try:
            with self._disk():
                return self.path(key).read_bytes()
        except FileNotFoundError as error:
            raise NotFound(f"no blob {key}", code="no_blob") from error

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
        with self._disk():
            return self.path(key).exists()

    def move(self, key: str, target: str) -> None:
        """Give a blob another key; nothing happens when it is not there."""
        with contextlib.suppress(NotFound):
            self.put(target, self.get(key))
            self.delete(key)

    def delete(self, key: str) -> None:
        """Remove a blob; nothing happens when it is not there."""
        path = self.path(key)
        with self._disk():
            path.unlink(missing_ok=True)
            self._prune(path.parent)

    def delete_folder(self, prefix: str) -> None:
        """Remove every blob under a prefix."""
        for key in list(self.keys(prefix)):
            self.delete(key)

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys under a folder, unfinished writes left out; a folder that isn't there has none."""
        with self._disk():
            for directory, _, names in os.walk(self.path(prefix), onerror=_unless_gone):
                for name in names:
                    if not name.startswith(NEW_PREFIX):
                        yield str((Path(directory) / name).relative_to(self._root))

    def sweep_unfinished(self, seconds: float) -> None:
        """Remove what writers that died left behind longer ago than this."""
        for path in self._root.rglob(f"{NEW_PREFIX}*"):
            with contextlib.suppress(OSError):  # one that can't be told of holds up no other
                if self._age(path) > seconds:
                    path.unlink()

    def folders(self, prefix: str) -> list[str]:
        """Return the names of the folders directly under a prefix."""
        with contextlib.suppress(FileNotFoundError), self._disk():
            return [entry.name for entry in os.scandir(self.path(prefix)) if entry.is_dir()]
        return []

    def age(self, key: str) -> float:
        """Return seconds since a blob was written, by the clock of the disk; 0 when it is gone."""
        with contextlib.suppress(FileNotFoundError), self._disk():
            return self._age(self.path(key))
        return 0.0

    def check(self) -> None:
        """Raise `DependencyDown` unless a blob can be written."""
        self.put(".check", b"")

    def _age(self, path: Path) -> float:
        """Return a file's age; a shared folder's server has a clock of its own, and marks files by it."""
        written = path.stat().st_mtime
        if time.monotonic() >= self._probe_at:
            self._probe_at = time.monotonic() + PROBE_SECONDS
            self._disk_time = _new_file_time(self._root) - time.monotonic()
        return time.monotonic() + self._disk_time - written

    def _prune(self, folder: Path) -> None:
        # A folder that another process is just filling isn't empty, and rmdir leaves it.
        with contextlib.suppress(OSError):
            while folder != self._root and folder.parent != self._root:
                folder.rmdir()
                folder = folder.parent

    def free_bytes(self) -> int:
        """Return how many bytes the disk has room for."""
        folder = self._root
        while not folder.exists():
            folder = folder.parent
        with self._disk():
            return shutil.disk_usage(folder).free

    @contextlib.contextmanager
    def _disk(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise DependencyDown("Blob folder", self.address, error.strerror or str(error)) from error


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _open_new(folder: Path) -> tuple[int, str]:
    # A `delete` in another process may remove the empty folder right after it was made.
    for _ in range(PRUNE_RACES):
        _make_folders(folder)
        with contextlib.suppress(FileNotFoundError):
            return tempfile.mkstemp(dir=folder, prefix=NEW_PREFIX)
    raise OSError(f"{folder} is removed as often as it is made")


def _new_file_time(folder: Path) -> float:
    """Return when a file that is written now is said to be written; our own time where none can be."""
    try:
        descriptor, name = _open_new(folder)
    except OSError:
        return time.time()
    try:
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
        Path(name).unlink(missing_ok=True)


def _make_folders(folder: Path) -> None:
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
