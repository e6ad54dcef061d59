"""What the document worker shows on `/metrics` besides its runs; the names are API."""

from prometheus_client import Counter, Histogram

from embedfleet.contracts.documents import MEDIA_TYPES, Document
from embedfleet.documents.pipeline import Processed
from embedfleet.documents.sandbox import Loss

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1800)

DOCUMENTS = Counter("fleet_documents", "Documents that were chunked, by type.", ["type"])
BYTES = Counter("fleet_document_bytes", "Bytes of the files that were chunked, by type.", ["type"])
PAGES = Counter(
    "fleet_document_pages", "Pages of the files that were chunked; text and Markdown have none.", ["type"]
)
CHUNKS = Counter(
    "fleet_document_chunks", "Chunks that were stored for the embedding workers, by type of file.", ["type"]
)
PARSE_SECONDS = Histogram(
    "fleet_parse_seconds",
    "Seconds from when a file is there until its chunks are, by type; of files that have some.",
    ["type"],
    buckets=_SECONDS,
)
SANDBOX_KILLS = Counter(
    "fleet_sandbox_kills",
    "Sandbox children that were killed, or died; one that was only worn and replaced is none.",
    ["reason"],
)

# Looked up once, so all of them are there from the start, as zeros.
_BY_EXTENSION = {
    extension: [metric.labels(extension[1:]) for metric in (DOCUMENTS, BYTES, PAGES, CHUNKS)]
    for extension in MEDIA_TYPES
}
_PARSE_SECONDS = {extension: PARSE_SECONDS.labels(extension[1:]) for extension in MEDIA_TYPES}
_BY_LOSS = {loss: SANDBOX_KILLS.labels(loss) for loss in Loss}


def parsed(extension: str, seconds: float) -> None:
    """Count how long a file took to become chunks; `extension` is in lower case, with its dot."""
    _PARSE_SECONDS[extension].observe(seconds)


def chunked(extension: str, document: Document, processed: Processed) -> None:
    """Count a document whose chunks are stored and whose task has ended."""
    amounts = (1, document.size_bytes, processed.pages or 0, len(processed.chunks))
    for counter, amount in zip(_BY_EXTENSION[extension], amounts, strict=True):
        counter.inc(amount)


def lost(loss: Loss) -> None:
    """Count a sandbox child that was killed, or died."""
    _BY_LOSS[loss].inc()
