"""What the document worker counts of its files: by type, and the types are those that can be uploaded."""

import subprocess
import sys

import pytest
from prometheus_client import REGISTRY

from embedfleet.contracts.documents import Chunk
from embedfleet.documents import metrics
from embedfleet.documents.pipeline import Processed
from embedfleet.documents.sandbox import Loss
from tests.counts import Counts, values
from tests.runtime.uploads import upload

TYPES = {("pdf",), ("docx",), ("txt",), ("md",)}


def shown(name: str) -> set[tuple[str, ...]]:
    return {labels for sample, labels in values(list(REGISTRY.collect())) if sample == name}


@pytest.mark.parametrize(
    "name",
    [
        "fleet_documents_total",
        "fleet_document_bytes_total",
        "fleet_document_pages_total",
        "fleet_document_chunks_total",
        "fleet_parse_seconds_count",
    ],
)
def test_every_type_is_shown_from_the_start(name: str) -> None:
    assert shown(name) == TYPES


def test_every_reason_is_shown_from_the_start_and_counted_under_its_name() -> None:
    reasons = {"memory", "time", "cpu", "crash", "killed", "stopped", "idle"}
    assert shown("fleet_sandbox_kills_total") == {(reason,) for reason in reasons}
    counts = Counts()
    for loss in Loss:
        metrics.lost(loss)
    assert counts.of("fleet_sandbox_kills_total") == {(reason,): 1 for reason in reasons}


@pytest.mark.parametrize(("extension", "pages"), [(".pdf", 3), (".md", None)])
def test_a_document_is_counted_with_its_size(extension: str, pages: int | None) -> None:
    counts, document = Counts(), upload().model_copy(update={"size_bytes": 700})
    chunks = [Chunk(index, "Cà phê phin", 0, 11, 5) for index in range(4)]
    metrics.parsed(extension, 0.2)
    metrics.chunked(extension, document, Processed(chunks, pages, 1000))
    kind = (extension[1:],)
    assert counts.of("fleet_documents_total") == {kind: 1}
    assert counts.of("fleet_document_bytes_total") == {kind: 700}
    assert counts.of("fleet_document_pages_total") == ({kind: 3} if pages else {})
    assert counts.of("fleet_document_chunks_total") == {kind: 4}
    assert counts.of("fleet_parse_seconds_count") == {kind: 1}


def test_a_sandbox_child_loads_nothing_that_counts() -> None:
    program = "import embedfleet.documents.sandbox.child, sys; print('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
