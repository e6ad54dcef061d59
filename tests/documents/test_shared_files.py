"""Some 190 real and hostile files, through the sandbox: right outcomes, and nearly all of their words."""

import csv
import importlib.util
import statistics
from collections import defaultdict
from pathlib import Path, PurePath

import pytest

from embedfleet.contracts.documents import ChunkOptions
from embedfleet.contracts.errors import DOCUMENT_CODES, DocumentProcessingError

DATA = Path(__file__).parents[3] / "shared" / "data"
# A sound document in the strict dialect of OOXML, which the set's own tools could not read; ours can.
READABLE_AFTER_ALL = {"docx/python-mammo__strict-format.docx"}
MIN_MEDIAN_RECALL = 0.97

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (DATA / "MANIFEST.csv").exists(), reason="the shared files are not here"),
]


def rows():
    with (DATA / "MANIFEST.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def score():
    spec = importlib.util.spec_from_file_location("score_extraction", DATA / "score_extraction.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.score


def text_of(chunks):
    """Put a document's text together again from its overlapping chunks."""
    parts, end = [], 0
    for chunk in chunks:
        if chunk.end > end:
            parts.append((" " if chunk.start > end else "") + chunk.text[max(0, end - chunk.start) :])
            end = chunk.end
    return "".join(parts)


@pytest.fixture
def outcomes(make_pool):
    """Return the text or the error code of every file."""
    pool = make_pool(size=2)
    found = {}
    for row in rows():
        path = DATA / row["path"]
        try:
            done = pool.process(
                path,
                PurePath(row["path"]).suffix,
                ChunkOptions(),
                deadline_seconds=60,
                on_progress=lambda done, total: None,
                check=lambda: None,
            )
        except DocumentProcessingError as error:
            found[row["path"]] = (None, error.code)
        else:
            found[row["path"]] = (text_of(done.chunks), None)
    return found


def test_outcomes_and_extraction(outcomes):
    wrong, recalls, measure = [], defaultdict(list), score()
    for row in rows():
        text, code = outcomes[row["path"]]
        assert code is None or code in DOCUMENT_CODES
        expected = "ok" if row["path"] in READABLE_AFTER_ALL else row["expected"]
        if expected != "either" and (expected == "ok") != (text is not None):
            wrong.append((row["path"], expected, code))
        if text is not None:
            assert "root:x:0" not in text
        if row["ref"] and expected == "ok":
            reference = (DATA / row["ref"]).read_text(encoding="utf-8")
            recalls[row["type"]].append(measure(reference, text or "")["recall"])
    assert wrong == []
    medians = {kind: statistics.median(values) for kind, values in recalls.items()}
    assert len(medians) == 4
    assert min(medians.values()) >= MIN_MEDIAN_RECALL, medians
