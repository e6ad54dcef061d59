"""The durable records of READY documents: how they are read, and how a Redis that lost some gets them back.

A record or a tombstone of a newer version is neither shortened nor forgotten: it stays where it is, and holds
up nothing else. Redis isn't taken for complete before a newer janitor has put it back.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from embedfleet.contracts.documents import Document
from embedfleet.contracts.errors import NewerVersion, NotFound
from embedfleet.contracts.states import DocumentState
from embedfleet.contracts.versions import Stranger, is_newer
from embedfleet.runtime.blobs import Blobs, pending_key, record_key, task_of_upload
from embedfleet.runtime.ledger.edges import Ledger
from embedfleet.runtime.ledger.tombstones import Tombstone, Tombstones

RECORDS_A_PAGE = 500
# A bucket takes tens of milliseconds to read one.
RECORDS_AT_ONCE = 16

Item = TypeVar("Item")
Record = TypeVar("Record", bound=BaseModel)

_log = logging.getLogger(__name__)


class Each(Protocol):
    """Takes a step for each item, though some fail; says whether none did."""

    def __call__(self, step: Callable[[Item], object], items: Iterable[Item], /) -> bool:
        """Take the steps."""


def listed(each: Each, folder: str, ask: Callable[[str], Iterable[Item]]) -> tuple[list[Item], bool]:
    """Return what a folder holds, and whether that is all: one that can't be read holds up no other work.

    A page is a step: of a bucket with a million records a list takes minutes.
    """
    found: list[Item] = []
    items, wanted = _lazily(folder, ask), RECORDS_A_PAGE
    while each(lambda _: found.extend(islice(items, RECORDS_A_PAGE)), [folder]):
        if len(found) < wanted:
            return found, True
        wanted += RECORDS_A_PAGE
    return found, False


def _lazily(folder: str, ask: Callable[[str], Iterable[Item]]) -> Iterator[Item]:
    yield from ask(folder)


def durable_record(blobs: Blobs, key: str) -> Document | Stranger | None:
    """Return a durable record; None when there is none, or it can't be read.

    A damaged one stays where it is, for `embedfleet fsck` to find.

    Raises:
        DependencyDown: the disk refuses.
    """
    try:
        return record_of(blobs.get(key), key)
    except NotFound:
        return None


def is_named(blobs: Blobs, upload: str, row: Document | None) -> bool:
    """Say whether a row, a manifest or a durable record names this uploaded file.

    The row names that of the newest generation, which may be in work yet, or have failed; the record that of
    the live one. A record that can't be read may name any file, and so may one whose row is missing.

    Args:
        blobs: where the file is.
        upload: its key.
        row: its document's row in the ledger.

    Raises:
        DependencyDown: the disk refuses.
    """
    if (row and row.blob == upload) or blobs.exists(pending_key(task_of_upload(upload))):
        return True
    _, tenant, document_id, _ = upload.split("/", 3)
    key = record_key(tenant, document_id)
    if row is None:
        return blobs.exists(key)
    try:
        record = record_of(blobs.get(key), key)
    except NotFound:
        return False
    return not isinstance(record, Document) or record.blob == upload


def record_of(text: bytes, key: str) -> Document | Stranger | None:
    """Read the text of a durable record; None when it is damaged."""
    try:
        return Document.model_validate_json(text, extra="forbid")
    except ValidationError as error:
        if is_newer(error):
            return Stranger.model_validate_json(text)
        _log.error("the durable record %s can't be read: see `embedfleet fsck`", key)
        return None


def read_whole(blobs: Blobs, kind: type[Record], key: str) -> Record | None:
    """Return a record as `Blobs.read` does, but tell one that is gone from one that is left where it is.

    Raises:
        NewerVersion: it is there, for a newer version.
    """
    found = blobs.read(kind, key)
    if found is None and blobs.exists(key):
        raise NewerVersion(key)
    return found


class Rebuild:
    """Brings a Redis that may have lost something up to what the blobs say; deletions first."""

    def __init__(self, ledger: Ledger, blobs: Blobs) -> None:
        self._ledger, self._blobs = ledger, blobs
        self._tombstones = Tombstones(blobs)
        self._unclear = set[str]()

    def run(self, each: Each) -> bool:
        """Tell Redis what is deleted, and put back what the durable records say.

        After a restart that lost nothing this only reads: the records, and two fields of each row.

        Args:
            each: takes the steps.

        Returns:
            Whether all could be; what fails, or is left to a newer version, is tried again the next time.
        """
        self._unclear.clear()
        tombstones, is_whole = listed(each, "deleted", self._blobs.keys)
        if not is_whole:
            return False  # what is deleted must not be put back
        is_whole = each(self._bury, sorted(tombstones))
        keys, are_all = listed(each, "documents", self._blobs.keys)
        is_whole &= are_all
        readers = ThreadPoolExecutor(RECORDS_AT_ONCE)
        try:
            for at in range(0, len(keys), RECORDS_A_PAGE):
                page = keys[at : at + RECORDS_A_PAGE]
                reads = {key: readers.submit(durable_record, self._blobs, key) for key in page}
                is_whole &= self._put_back_page(each, reads)
        finally:  # where a round ends early, nobody waits for the rest of a page
            readers.shutdown(wait=False, cancel_futures=True)
        return is_whole

    def puts_back(self, document: Document, record: Document | Stranger | None) -> bool:
        """Put a durable record back if it tells more than the ledger does; say whether it did."""
        if isinstance(record, Stranger) and record.generation >= document.generation:
            raise NewerVersion(f"the record of document {record.id}")
        if not isinstance(record, Document):
            return False
        if record.generation > document.generation:
            self._ledger.restore(record)  # another Redis took over, without knowing it
            return True
        # Redis came back without knowing it; there was no chunk file to run on.
        return document.state is not DocumentState.READY and self._ledger.restore(record)

    def _put_back_page(self, each: Each, reads: dict[str, "Future[Document | Stranger | None]"]) -> bool:
        records: list[Document | Stranger] = []

        def read(key: str) -> None:
            if record := reads[key].result():
                records.append(record)

        is_whole = each(read, reads)
        return each(self._put_back, self._ledger.behind(records)) and is_whole

    def _put_back(self, record: Document | Stranger) -> None:
        if isinstance(record, Stranger):
            raise NewerVersion(f"the record of document {record.id}")
        if record.id in self._unclear:
            raise NewerVersion(f"a deletion of document {record.id}")
        self._ledger.restore(record)

    def _bury(self, key: str) -> None:
        try:
            if tombstone := read_whole(self._blobs, Tombstone, key):
                self._ledger.delete(tombstone.tenant, tombstone.document_id, tombstone.generation)
        except Exception:
            self._unclear.add(key.split("/")[-2])  # the document that it may be about is not put back, either
            raise
