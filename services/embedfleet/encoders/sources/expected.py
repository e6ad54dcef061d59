"""What a file from the hub must be: the pin's word, else the hub's own."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import httpx

from embedfleet.encoders.files import MAX_JSON_BYTES
from embedfleet.encoders.manifest import READ_BYTES
from embedfleet.encoders.registry import (
    ONNX_DATA_FILE,
    ONNX_FILE,
    TOKENIZER_FILE,
    VOCABULARY_FILE,
    WEIGHTS_FILE,
    Pin,
)

MAX_SMALL_BYTES = 64_000_000
MAX_LARGE_BYTES = 4_000_000_000
GIT_SHA1 = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Expected:
    """Size in bytes and hashes in hex; None where nobody says."""

    size: int | None
    sha256: str | None
    git_sha1: str | None

    @property
    def verifiable(self) -> bool:
        """Return whether a hash is known; without one, pieces of two transfers must not be joined."""
        return bool(self.sha256 or self.git_sha1)

    def matches(self, path: Path) -> bool:
        """Return whether a file is what it must be, in everything that is known."""
        size = path.stat().st_size
        sha256 = hashlib.sha256()
        # A git blob's name; the hub gives no other hash for small files.
        git_sha1 = hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
        with path.open("rb") as stream:
            while piece := stream.read(READ_BYTES):
                sha256.update(piece)
                git_sha1.update(piece)
        return (
            self.size in (None, size)
            and self.sha256 in (None, sha256.hexdigest())
            and self.git_sha1 in (None, git_sha1.hexdigest())
        )


def of_pin(pin: Pin) -> Expected:
    """Return what a pin says."""
    return Expected(pin.size, pin.sha256, None)


def of_answer(first: httpx.Response, last: httpx.Response) -> Expected:
    """Return what the hub says of a file.

    `X-Linked-Etag` is the sha256 of a large file, `ETag` the git blob sha1 of a small one.

    Args:
        first: the hub's own answer; only it is asked for hashes.
        last: the answer behind its redirects, which may tell the size.
    """
    sha256 = first.headers.get("x-linked-etag", "").strip('"')
    blob = first.headers.get("etag", "").removeprefix("W/").strip('"')
    size = first.headers.get("x-linked-size") or last.headers.get("content-range", "").rpartition("/")[2]
    if not size and last.status_code == httpx.codes.OK:
        size = last.headers.get("content-length", "")
    return Expected(
        size=int(size) if size.isascii() and size.isdecimal() and len(size) < 16 else None,
        sha256=sha256 if SHA256.fullmatch(sha256) else None,
        git_sha1=blob if GIT_SHA1.fullmatch(blob) else None,
    )


def limit(name: str) -> int:
    """Return the most bytes that a file of the hub may have."""
    if name in (ONNX_FILE, ONNX_DATA_FILE, WEIGHTS_FILE):
        return MAX_LARGE_BYTES
    return MAX_SMALL_BYTES if name in (TOKENIZER_FILE, VOCABULARY_FILE) else MAX_JSON_BYTES
