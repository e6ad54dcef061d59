"""Blobs in a folder of this machine, or one that is mounted.

A write is data fsynced under a temporary name, renamed, and the folder fsynced.
"""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from embedfleet.contracts.errors import DependencyDown

NEW_PREFIX = ".new-"
PRUNE_RACES = 100
# How long the clock of the disk is taken as known.
PROBE_SECONDS = 60.0
PIECE_BYTES = 1 << 20


class Folder:
    """A `Store` in a folder."""

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root).expanduser().resolve()
        self._disk_time, self._probe_at = 0.0, 0.0

    @property
    def address(self) -> str:
        """The folder."""
        return str(self._root)

    def path(self, key: str) -> Path:
        """Return the path of a key, whose words `Blobs` has judged; it need not exist.

        Links aren't followed: that took as long as a small read, and nobody who names a key can make one.
        """
        return self._root / key

    def put(self, key: str, pieces: Iterable[bytes]) -> None:
        """Store a blob durably, in place of what is there."""
        path = self.path(key)
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

    def pieces(self, key: str) -> Iterator[bytes]:
        """Yield a blob in pieces."""
        with self._disk(), self.path(key).open("rb") as file:
            while piece := file.read(PIECE_BYTES):
                yield piece

    @contextlib.contextmanager
    def file(self, key: str, limit: int) -> Iterator[Path]:
        """Return the blob itself: nothing is copied."""
        yield self.path(key)

    def exists(self, key: str) -> bool:
        """Say whether there is such a blob."""
        with self._disk():
            return _exists(self.path(key))

    def delete(self, keys: Sequence[str]) -> None:
        """Remove blobs, and folders that are empty then."""
        for key in keys:
            path = self.path(key)
            with self._disk():
                path.unlink(missing_ok=True)
                self._prune(path.parent)

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys under a folder, unfinished writes left out; a folder that isn't there has none."""
        with self._disk():
            for directory, _, names in os.walk(self.path(prefix), onerror=_unless_gone):
                for name in names:
                    if not name.startswith(NEW_PREFIX):
                        yield str((Path(directory) / name).relative_to(self._root))

    def ages(self, prefix: str) -> Iterator[tuple[str, float]]:
        """Yield each key under a folder with its age; where the disk doesn't tell one, it is new."""
        for key in self.keys(prefix):
            with contextlib.suppress(FileNotFoundError):
                yield key, self._age_or_new(key)

    def sweep_unfinished(self, seconds: float) -> None:
        """Remove what writers that died left behind longer ago than this."""
        for path in self._root.rglob(f"{NEW_PREFIX}*"):
            with contextlib.suppress(OSError):  # one that the disk doesn't tell of holds up no other
                if self._age(path) > seconds:
                    path.unlink()

    def folders(self, prefix: str) -> list[str]:
        """Return the names of the folders directly under a prefix."""
        with contextlib.suppress(FileNotFoundError), self._disk():
            return [entry.name for entry in os.scandir(self.path(prefix)) if entry.is_dir()]
        return []

    def age(self, key: str) -> float:
        """Return seconds since a blob was written, by the clock of the disk."""
        with self._disk():
            return self._age(self.path(key))

    def _age_or_new(self, key: str) -> float:
        try:
            return self.age(key)
        except DependencyDown:
            return 0.0

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
        with self._disk():
            while not _exists(folder):
                folder = folder.parent
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
    # A `delete` in another process may remove the empty folder, or one above it, right after it was made; for
    # `mkdir` one that goes while it looks "exists".
    for _ in range(PRUNE_RACES):
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            _make_folders(folder)
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


def _exists(path: Path) -> bool:
    """Say whether there is such a path; raises where the disk doesn't tell, unlike `Path.exists`."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _make_folders(folder: Path) -> None:
    missing = []
    while not _exists(folder):
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
