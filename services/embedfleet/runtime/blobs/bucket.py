"""Blobs in a bucket of S3 (or what speaks its protocol), Google Cloud Storage or Azure, through obstore.

A write is one request, or a multipart upload that appears as a whole when its last request is answered; what
a writer that died left of one is never seen (a lifecycle rule of the bucket removes it: docs/blobs.md). Reads
and lists must show what was written before them: S3, GCS and Azure promise that, and MinIO, Ceph and R2 do.

Each request has a time limit, and is repeated a few times where the store says 5xx or breaks off; what waits
longer than that is `DependencyDown`'s business. Credentials are obstore's: it reads the variables that the
store's own tools read, or asks for a workload's identity. No message here repeats what an error of it says.
"""

import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from embedfleet.contracts.errors import ConfigurationError, DependencyDown, DocumentProcessingError, NotFound
from embedfleet.runtime.blobs import refusals

try:
    import obstore
    from obstore.exceptions import BaseError, PermissionDeniedError
    from obstore.store import AzureStore, GCSStore, S3Store
except ModuleNotFoundError as missing:
    raise ConfigurationError(
        "FLEET_BLOB_URL names a bucket, and obstore is not installed: pip install 'embedfleet[object-store]'"
    ) from missing

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ClientConfig, RetryConfig

Objects: TypeAlias = S3Store | GCSStore | AzureStore

# The smallest part that S3 takes; two are under way at a time, so an upload holds some 15 MiB.
PIECE_BYTES = 5 << 20
PARTS_AT_ONCE = 2
PAGE_KEYS = 1000
CONNECT_SECONDS = 5
REQUEST_SECONDS = 20
RETRIES = 3
# How long the clock of the store is taken as known, and how long finding it out may take.
PROBE_SECONDS = 60.0
PROBE_PATIENCE_SECONDS = 1.0
PROBE_TRIES = 3
CLOCK_KEY = ".clock"

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT")


class Bucket:
    """A `Store` under a prefix of a bucket.

    Args:
        url: SCHEME://BUCKET/PREFIX, as `BlobSettings` takes it.

    Raises:
        ConfigurationError: a variable of the store is missing or wrong.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        scheme, _, rest = url.partition("://")
        self._is_s3 = scheme == "s3"
        bucket, _, prefix = rest.partition("/")
        try:
            self._objects = _opened(scheme, bucket, prefix or None)
        except (BaseError, ValueError) as error:
            # Its text may repeat a part of a key.
            reason = refusals.reason_of_start(scheme, error)
            raise ConfigurationError(f"FLEET_BLOB_URL {url}: {reason}; see docs/blobs.md") from None
        self._store_time, self._probe_at = 0.0, 0.0

    @property
    def address(self) -> str:
        """Scheme, bucket and prefix."""
        return self._url

    def put(self, key: str, pieces: Iterable[bytes]) -> None:
        """Store a blob; a small one in a single request."""
        parts = _joined(pieces)
        with self._reached():
            first, second = next(parts, b""), next(parts, None)
            if second is None:
                obstore.put(self._objects, key, first, use_multipart=False)
            else:
                obstore.put(
                    self._objects,
                    key,
                    chain((first, second), parts),
                    use_multipart=True,
                    chunk_size=PIECE_BYTES,
                    max_concurrency=PARTS_AT_ONCE,
                )

    def pieces(self, key: str) -> Iterator[bytes]:
        """Yield a blob in pieces, a request each; all are of the version that the first is of."""
        with self._reached():
            try:
                answer = obstore.get(self._objects, key, options={"range": (0, PIECE_BYTES)})
                size, e_tag, piece = answer.meta["size"], answer.meta["e_tag"], bytes(answer.bytes())
            except BaseError as error:
                if refusals.is_past_the_end(error):
                    return
                raise
        yield piece
        at = len(piece)
        while at < size:
            with self._reached():
                end = min(at + PIECE_BYTES, size)
                answer = obstore.get(self._objects, key, options={"range": (at, end), "if_match": e_tag})
                piece = bytes(answer.bytes())
            yield piece
            at += len(piece)

    @contextmanager
    def file(self, key: str, limit: int) -> Iterator[Path]:
        """Return a copy that has no name, so that nothing of it is left whenever this process dies."""
        try:
            copy = tempfile.TemporaryFile()  # noqa: SIM115 — closed below
        except OSError as error:
            raise _no_room(error) from error
        with copy:
            size = 0
            try:
                for piece in self.pieces(key):
                    size += len(piece)
                    if size > limit:
                        raise DocumentProcessingError(
                            f"The stored file is larger than the {limit:,} bytes that were uploaded;"
                            " upload it again.",
                            code="limit_exceeded",
                        )
                    copy.write(piece)
                copy.flush()
            except FileNotFoundError as error:
                raise NotFound(f"no blob {key}: upload the file again", code="no_blob") from error
            except OSError as error:
                raise _no_room(error) from error
            yield Path(f"/proc/self/fd/{copy.fileno()}")

    def exists(self, key: str) -> bool:
        """Say whether there is such a blob."""
        with self._reached(), suppress(FileNotFoundError):
            obstore.head(self._objects, key)
            return True
        return False

    def delete(self, keys: Sequence[str]) -> None:
        """Remove blobs; S3 takes a thousand a request."""
        with self._reached():
            if self._is_s3 and len(keys) > 1:
                obstore.delete(self._objects, keys)
                return
            for key in keys:
                try:
                    obstore.delete(self._objects, key)
                except FileNotFoundError as error:
                    if refusals.is_no_bucket(error):
                        raise

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys under a folder."""
        for blob in self._listed(prefix):
            yield blob["path"]

    def ages(self, prefix: str) -> Iterator[tuple[str, float]]:
        """Yield each key under a folder with its age."""
        for blob in self._listed(prefix):
            yield blob["path"], self._since(blob)

    def folders(self, prefix: str) -> list[str]:
        """Return the names of the folders directly under a folder."""
        with self._reached():
            found = obstore.list_with_delimiter(self._objects, prefix)
        return [folder.rsplit("/", 1)[-1] for folder in found["common_prefixes"]]

    def age(self, key: str) -> float:
        """Return the seconds since a blob was written, by the store's clock; a second more or less."""
        with self._reached():
            blob = obstore.head(self._objects, key)
        return self._since(blob)

    def free_bytes(self) -> None:
        """Return None: a bucket has no limit."""

    def sweep_unfinished(self, seconds: float) -> None:
        """Do nothing: no list shows what is left of a multipart upload."""

    def _listed(self, prefix: str) -> "Iterator[ObjectMeta]":
        pages = obstore.list(self._objects, prefix or None, chunk_size=PAGE_KEYS)
        while True:
            with self._reached():
                page = next(pages, None)
            if page is None:
                return
            yield from page

    def _since(self, blob: "ObjectMeta") -> float:
        if time.monotonic() >= self._probe_at:
            self._store_time = self._probed()
            self._probe_at = time.monotonic() + PROBE_SECONDS
        return time.monotonic() + self._store_time - blob["last_modified"].timestamp()

    def _probed(self) -> float:
        """Return by how much the store's clock is before our monotonic one; our own where we may not write.

        Told from before the write began: an age may be too large by the time that this took, never too small
        by it. A manifest that Redis has lost must not be taken for one that came after the loss.
        """
        for _ in range(PROBE_TRIES):
            began = time.monotonic()
            try:
                with self._reached():
                    obstore.put(self._objects, CLOCK_KEY, b"", use_multipart=False)
                    written = obstore.head(self._objects, CLOCK_KEY)["last_modified"].timestamp()
            except DependencyDown as error:
                if isinstance(error.__cause__, PermissionDeniedError):
                    return time.time() - time.monotonic()
                raise
            if time.monotonic() - began <= PROBE_PATIENCE_SECONDS:
                break
        return written - began

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if refusals.is_no_bucket(error):
                raise self._down(error) from error
            raise
        except (BaseError, OSError) as error:
            raise self._down(error) from error

    def _down(self, error: Exception) -> DependencyDown:
        return DependencyDown("Blob store", self._url, refusals.reason_of(error))


def _opened(scheme: str, bucket: str, prefix: str | None) -> Objects:
    retries: RetryConfig = {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=REQUEST_SECONDS)}
    client: ClientConfig = {
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "timeout": timedelta(seconds=REQUEST_SECONDS),
    }
    if any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS):
        client["allow_http"] = True
    if scheme == "s3":
        return S3Store(bucket, prefix=prefix, client_options=client, retry_config=retries)
    if scheme == "gs":
        return GCSStore(bucket, prefix=prefix, client_options=client, retry_config=retries)
    return AzureStore(bucket, prefix=prefix, client_options=client, retry_config=retries)


def _joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in parts of `PIECE_BYTES`, the last of what is left."""
    part = bytearray()
    for piece in pieces:
        part += piece
        while len(part) >= PIECE_BYTES:
            yield bytes(part[:PIECE_BYTES])
            del part[:PIECE_BYTES]
    if part:
        yield bytes(part)


def _no_room(error: OSError) -> DependencyDown:
    return DependencyDown("Temporary folder", tempfile.gettempdir(), error.strerror or str(error))
