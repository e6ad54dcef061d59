"""The data folder: which collections there are, and that only one process has it open.

``collections/<name>`` is a collection if and only if the name exists: a new one is written under
``unfinished/`` and renamed, an old one is renamed back there and then removed. A kill -9 at any point leaves
a collection whole or gone; leftovers go at the next start.
"""

import fcntl
import os
import re
import shutil
import threading
import uuid
from contextlib import suppress
from pathlib import Path

from embedfleet.contracts.errors import ConfigurationError, InvalidRequest, NotFound
from embedfleet.local.qdrant.collection import Collection, absent, write_new
from embedfleet.runtime.blobs import sync_folder

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


class Catalog:
    """All collections of a data folder.

    Args:
        path: the folder; made when absent.

    Raises:
        ConfigurationError: another process has it open, or a collection can't be read.
    """

    def __init__(self, path: Path) -> None:
        self._home, self._unfinished = path / "collections", path / "unfinished"
        self._home.mkdir(parents=True, exist_ok=True)
        self._lock_file = _lock(path)
        shutil.rmtree(self._unfinished, ignore_errors=True)
        self._unfinished.mkdir()
        self._lock = threading.Lock()
        self._open: dict[str, Collection] = {}
        for folder in sorted(self._home.iterdir()):
            self._open[folder.name] = Collection(folder)

    def names(self) -> list[str]:
        """Return the names of all collections, sorted."""
        return sorted(self._open)

    def exists(self, name: str) -> bool:
        """Tell whether there is such a collection."""
        return name in self._open

    def get(self, name: str) -> Collection:
        """Return a collection.

        Raises:
            NotFound: there is none of this name.
        """
        collection = self._open.get(name)
        if collection is None:
            raise absent(name)
        return collection

    def create(self, name: str, size: int) -> None:
        """Create a collection.

        Args:
            name: letters, digits, ``_ . -``, at most 128; no leading dot or dash.
            size: length of its vectors.

        Raises:
            InvalidRequest: a name that isn't allowed (422), or that exists (409).
        """
        if not NAME.fullmatch(name):
            raise InvalidRequest(
                f"collection name {name!r} isn't allowed: letters, digits, _ . - and at most 128 of them,"
                " the first a letter, a digit or _"
            )
        with self._lock:
            if name in self._open:
                raise InvalidRequest(f"Wrong input: Collection `{name}` already exists!", status=409)
            new = self._unfinished / uuid.uuid4().hex
            write_new(new, size)
            folder = self._home / name
            new.rename(folder)
            sync_folder(self._home)
            self._open[name] = Collection(folder)

    def delete(self, name: str) -> bool:
        """Remove a collection and its files; tell whether there was one."""
        with self._lock:
            collection = self._open.pop(name, None)
            if collection is None:
                return False
            collection.close()
            old = self._unfinished / uuid.uuid4().hex
            collection.folder.rename(old)
            sync_folder(self._home)
        shutil.rmtree(old, ignore_errors=True)
        return True

    def flush(self) -> None:
        """Flush every collection that changed."""
        for collection in list(self._open.values()):
            with suppress(NotFound):  # it was deleted meanwhile
                collection.flush()

    def close(self) -> None:
        """Close all collections and give the folder free."""
        with self._lock:
            for collection in self._open.values():
                collection.close()
            self._open.clear()
        os.close(self._lock_file)


def _lock(path: Path) -> int:
    descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise ConfigurationError(
            f"{path} is in use by another process (pid {holder}): stop it, or give another --path"
        ) from error
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor
