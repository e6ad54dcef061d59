"""Which files an `ingest` takes, and the document key of each."""

import os
import stat
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from embedfleet.contracts.documents import MEDIA_TYPES
from embedfleet.contracts.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Source:
    """A file to upload.

    Attributes:
        path: the file.
        key: its document key: path relative to the folder that was given, with `/`.
        label: the path as the user would write it.
    """

    path: Path
    key: str
    label: str


@dataclass(slots=True)
class Selection:
    """Files to upload, and those left out with the reason."""

    sources: list[Source] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)


def select(paths: list[Path]) -> Selection:
    """Return the files of paths that exist: themselves, or all in a folder (hidden ones are passed over).

    Raises:
        InvalidRequest: two different files would be the same document.
    """
    selection, taken = Selection(), dict[str, Path]()
    for given in paths:
        for path in _files(given, selection):
            reason = _unfit(path)
            if reason:
                selection.skipped.append((_utf8(str(path)), reason))
                continue
            name = path.relative_to(given).as_posix() if path != given else given.name
            key = unicodedata.normalize("NFC", _utf8(name))  # as the API keeps it
            real = path.resolve()
            if key not in taken:
                taken[key] = real
                selection.sources.append(Source(path, key, _utf8(str(path))))
            elif taken[key] != real:
                raise InvalidRequest(
                    f"{_utf8(str(path))} and {_utf8(str(taken[key]))} would both be the document {key!r}:"
                    " give the folder that holds both instead"
                )
    return selection


def _files(given: Path, selection: Selection) -> Iterator[Path]:
    """Yield a file itself, or what is below a folder in a fixed order; unreadable folders are noted."""
    if not given.is_dir():
        yield given
        return

    def unreadable(error: OSError) -> None:
        selection.skipped.append((_utf8(str(error.filename)), f"folder can't be read: {error.strerror}"))

    for folder, folders, names in os.walk(given, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(folder, name)


def _unfit(path: Path) -> str:
    """Return why a path can't be uploaded, or ""."""
    if path.suffix.lower() not in MEDIA_TYPES:
        return f"type {path.suffix or 'without extension'} is not one of {' '.join(MEDIA_TYPES)}"
    try:
        # Opening a named pipe or a device could wait for ever.
        return "" if stat.S_ISREG(path.stat().st_mode) else "not a regular file"
    except OSError as error:
        return f"can't be read: {error.strerror}"


def _utf8(name: str) -> str:
    """Return a file name as text; bytes that are no UTF-8 are written out, so that names stay different."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
