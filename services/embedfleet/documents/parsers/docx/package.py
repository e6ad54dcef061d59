"""The ZIP of a DOCX, opened without trusting what it says about itself.

The central directory is bounded before it is read, declared sizes are checked and then counted while
inflating (they lie), and nothing is ever written under an entry's name.
"""

import posixpath
import struct
import zipfile
import zlib
from collections.abc import Iterator
from types import TracebackType
from typing import IO, BinaryIO, Self

from embedfleet.documents.parsers.block import Limits, corrupt, limit_exceeded, password_needed

_END = struct.Struct("<4s4H2LH")  # end of central directory record, APPNOTE.TXT 4.3.16
_END_MAGIC = b"PK\x05\x06"
_LOCATOR_64_MAGIC = b"PK\x06\x07"  # zip64 end of central directory locator, 4.3.15
_LOCATOR_64_BYTES = 20
_MAX_COMMENT = 65_535
_DIRECTORY_BYTES_PER_ENTRY = 1_024
_RATIO_MATTERS_ABOVE = 1_000_000
_READ = 65_536


class Package:
    """A DOCX's ZIP, open.

    Args:
        file: open for reading; stays open.
        limits: bounds on entries and inflated sizes.

    Raises:
        DocumentProcessingError: `corrupt` or `limit_exceeded`.
    """

    def __init__(self, file: BinaryIO, limits: Limits) -> None:
        self._limits = limits
        self._inflated = 0
        _check_directory_size(file, limits)
        self._zip = _open_zip(file)
        self._infos = self._zip.infolist()
        self.names = {_key(info.filename): info for info in self._infos}
        self._check_declared()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return _key(name) in self.names

    def _check_declared(self) -> None:
        infos, limits = self._infos, self._limits
        if len(infos) > limits.entries:
            raise limit_exceeded(f"{len(infos):,} entries")
        if any(info.file_size > limits.entry_bytes for info in infos):
            raise limit_exceeded(f"an entry of more than {limits.entry_bytes:,} bytes inflated")
        if sum(info.file_size for info in infos) > limits.total_bytes:
            raise limit_exceeded(f"more than {limits.total_bytes:,} bytes inflated")
        for info in infos:
            if info.file_size > max(_RATIO_MATTERS_ABOVE, limits.ratio * info.compress_size):
                raise limit_exceeded(f"an entry that inflates more than {limits.ratio} times")

    def stream(self, name: str) -> Iterator[bytes]:
        """Yield an entry's bytes in pieces, counting them against the limits.

        Raises:
            DocumentProcessingError: `corrupt`, `encrypted` or `limit_exceeded`.
        """
        info = self.names.get(_key(name))
        if info is None:
            raise corrupt(f"its part {posixpath.basename(name)} is missing")
        if info.flag_bits & 1:
            raise password_needed("DOCX")
        try:
            with self._zip.open(info) as entry:
                yield from self._counted(entry, info.compress_size)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError) as error:
            raise corrupt(f"its part {posixpath.basename(name)} can't be inflated") from error

    def _counted(self, entry: IO[bytes], stored: int) -> Iterator[bytes]:
        limits = self._limits
        bound = min(limits.entry_bytes, max(_RATIO_MATTERS_ABOVE, limits.ratio * stored))
        size = 0
        while data := entry.read(_READ):
            size += len(data)
            self._inflated += len(data)
            if size > bound or self._inflated > limits.total_bytes:
                raise limit_exceeded("parts that inflate beyond their bounds")
            yield data


def _open_zip(file: BinaryIO) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as error:
        raise corrupt("its ZIP directory can't be read") from error


def _key(name: str) -> str:
    return name.lstrip("/").lower()


def _check_directory_size(file: BinaryIO, limits: Limits) -> None:
    """Refuse a central directory that would be large in memory, from its end record alone."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _MAX_COMMENT - _END.size))
    tail = file.read()
    at = tail.rfind(_END_MAGIC)
    if at < 0 or len(tail) - at < _END.size:
        raise corrupt("its ZIP directory is missing, the file may be cut off")
    before = max(0, size - len(tail) + at - _LOCATOR_64_BYTES)
    file.seek(before)
    if file.read(len(_LOCATOR_64_MAGIC)) == _LOCATOR_64_MAGIC:
        # Its 64-bit sizes stand elsewhere and would overrule those checked here; no document needs them.
        raise limit_exceeded("a ZIP directory of the 64-bit kind")
    _, _, _, _, entries, directory_bytes, _, _ = _END.unpack_from(tail, at)
    if entries > limits.entries or directory_bytes > limits.entries * _DIRECTORY_BYTES_PER_ENTRY:
        raise limit_exceeded(f"more than {limits.entries:,} entries")
