"""However a document is edited, and wherever its worker dies: it ends with exactly its own points."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from documents_in_store import DIM, KnownEncoder, StoredDocument, chunks_of, engine_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from prometheus_client import REGISTRY
from tests import counts

from embedfleet.contracts.errors import DependencyDown, EmbeddingError, FleetError, VectorStoreError
from embedfleet.embeddings import generation
from embedfleet.embeddings.engine import Engine
from embedfleet.embeddings.generation import Counts
from embedfleet.runtime.settings import VectorSettings
from embedfleet.runtime.worker.runs import Run, Stopped
from embedfleet.vectors import VectorStore

WAIT_SECONDS = 20
TEXTS = [f"sentence {n}" for n in range(60)]


def until(is_so: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + WAIT_SECONDS
    while not is_so():
        assert time.monotonic() < ends_at


@pytest.fixture(scope="module")
def store(qdrant_url: str) -> Iterator[VectorStore]:
    store = VectorStore(VectorSettings(url=qdrant_url))
    yield store
    store.close()


@pytest.fixture(scope="module")
def encoder() -> KnownEncoder:
    return KnownEncoder()


@pytest.fixture(scope="module")
def engine(encoder: KnownEncoder, store: VectorStore) -> Iterator[Engine]:
    engine = engine_of(encoder, store)
    yield engine
    engine.close()


@pytest.fixture
def document(engine: Engine) -> StoredDocument:
    return StoredDocument(engine)


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "SLICE_CHUNKS", 3)
    monkeypatch.setattr(generation, "REUSED_CHUNKS", 4)


def test_a_sentence_changed_in_the_middle_is_all_that_is_embedded(
    document: StoredDocument, encoder: KnownEncoder
) -> None:
    assert document.upload(TEXTS) == Counts(embedded=60, reused=0, skipped=0)
    before = encoder.rows
    changed = [*TEXTS[:30], "another sentence", *TEXTS[31:]]
    assert document.upload(changed) == Counts(embedded=1, reused=59, skipped=0)
    assert encoder.rows == before + 1
    document.assert_holds(changed)
    assert document.upload([*changed[5:], *changed[:5]]) == Counts(embedded=0, reused=60, skipped=0)
    assert document.upload(["sentence 7"]) == Counts(embedded=0, reused=1, skipped=0)
    document.assert_holds(["sentence 7"])


def test_a_text_that_is_repeated_serves_all_its_copies(document: StoredDocument) -> None:
    document.upload(["same", "same", "other"])
    assert document.upload(["same"] * 5 + ["new", "new"]) == Counts(embedded=2, reused=5, skipped=0)
    document.assert_holds(["same"] * 5 + ["new", "new"])


def test_a_first_upload_asks_the_store_nothing_more(document: StoredDocument) -> None:
    calls: list[int] = []

    def count(run: Run, call: Callable[[], object]) -> None:
        calls.append(1)
        call()

    document.hold = count
    document.upload(TEXTS[:10])
    assert len(calls) == 1  # ensure_collection; the writers store
    calls.clear()
    document.upload(TEXTS[:10])
    assert len(calls) == 2  # and the look-up


def test_a_task_whose_batch_never_comes_back_is_stalled(
    document: StoredDocument, encoder: KnownEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    comes_back = threading.Event()

    def hang(token_ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        assert comes_back.wait(WAIT_SECONDS)
        return KnownEncoder().encode(token_ids, lengths)

    monkeypatch.setattr(encoder, "encode", hang)
    monkeypatch.setattr(generation, "PATIENCE_SECONDS", 0.0)
    with pytest.raises(FleetError, match="the stage encode made no progress") as error:
        document.upload(TEXTS[:5])
    assert (error.value.code, error.value.retryable) == ("stalled", True)
    comes_back.set()


def test_another_precision_reuses_nothing(document: StoredDocument, encoder: KnownEncoder) -> None:
    document.upload(TEXTS[:5])
    encoder.precision = "bf16"
    try:
        assert document.upload(TEXTS[:5]) == Counts(embedded=5, reused=0, skipped=0)
    finally:
        encoder.precision = "fp32"
    document.assert_holds(TEXTS[:5], precision="bf16")


def test_a_generation_that_is_not_live_is_not_read(document: StoredDocument) -> None:
    document.upload(TEXTS[:5])
    document.begin()
    document.write(chunks_of(TEXTS[5:10]))
    assert document.upload(TEXTS[5:10]) == Counts(embedded=5, reused=0, skipped=0)
    document.assert_holds(TEXTS[5:10])


def test_a_live_generation_that_has_vanished_is_embedded_again(document: StoredDocument) -> None:
    document.upload(TEXTS[:5])
    document.store.delete_generations(document.name, document.id)
    assert document.upload(TEXTS[:5]) == Counts(embedded=5, reused=0, skipped=0)
    document.store._client.delete_collection(document.name)
    assert document.upload(TEXTS[:4]) == Counts(embedded=4, reused=0, skipped=0)
    document.assert_holds(TEXTS[:4])


def test_vectors_of_another_length_are_not_reused(
    document: StoredDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    document.upload(TEXTS[:5])
    found = document.store.vectors_by_hash

    def cut(*question: str) -> dict[str, np.ndarray]:
        return {each: vector[: DIM - n % 2] for n, (each, vector) in enumerate(found(*question).items())}

    monkeypatch.setattr(document.store, "vectors_by_hash", cut)
    assert document.upload(TEXTS[:5]) == Counts(embedded=2, reused=3, skipped=0)
    document.assert_holds(TEXTS[:5])


def test_a_store_that_refuses_the_question_costs_only_time(
    document: StoredDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise VectorStoreError('Index required but not found for "text_hash"')

    document.upload(TEXTS[:5])
    monkeypatch.setattr(document.store, "vectors_by_hash", refuse)
    assert document.upload(TEXTS[:5]) == Counts(embedded=5, reused=0, skipped=0)
    document.assert_holds(TEXTS[:5])


def test_a_store_that_is_down_is_waited_for(
    document: StoredDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, tries = document.store.vectors_by_hash, iter([DependencyDown("Qdrant", "q", "down")] * 2)

    def down(*question: str) -> dict[str, np.ndarray]:
        for error in tries:
            raise error
        return found(*question)

    def hold(run: Run, call: Callable[[], object]) -> None:
        for _ in range(3):
            try:
                call()
                return
            except DependencyDown:
                pass
        raise AssertionError("it was down for longer")

    document.upload(TEXTS[:5])
    monkeypatch.setattr(document.store, "vectors_by_hash", down)
    with pytest.raises(DependencyDown):
        document.upload(TEXTS[:5])
    document.hold, tries = hold, iter([DependencyDown("Qdrant", "q", "down")] * 2)
    assert document.upload(TEXTS[:5]) == Counts(embedded=0, reused=5, skipped=0)


@some.composite
def edits(draw: some.DrawFn) -> list[tuple[str, int, int]]:
    """Draw inserts, deletes, changes and moves, as (kind, place, text or goal)."""
    kinds = some.sampled_from(["insert", "insert", "delete", "change", "move", "repeat"])
    places = some.integers(0, 200)
    return draw(some.lists(some.tuples(kinds, places, places), max_size=12))


def edited(texts: Sequence[str], steps: list[tuple[str, int, int]]) -> list[str]:
    texts = list(texts)
    for kind, place, other in steps:
        if kind == "insert" or not texts:
            texts.insert(place % (len(texts) + 1), f"text {other}")
            continue
        at = place % len(texts)
        if kind == "change":
            texts[at] = f"changed {other}"
        elif kind == "repeat":
            texts.append(texts[at])
        else:
            text = texts.pop(at)
            if kind == "move":
                texts.insert(other % (len(texts) + 1), text)
    return texts


@some.composite
def uploads(draw: some.DrawFn) -> list[tuple[list[tuple[str, int, int]], int, int, bool]]:
    """Draw generations: edits, chunks a part, the call that a worker dies at, whether it is revoked."""
    one = some.tuples(edits(), some.integers(4, 12), some.integers(0, 9), some.booleans())
    return draw(some.lists(one, min_size=1, max_size=5))


@pytest.mark.usefixtures("small_slices")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=some.integers(0, 20), story=uploads())
def test_a_document_ends_with_exactly_its_current_chunks(
    engine: Engine,
    first: int,
    story: list[tuple[list[tuple[str, int, int]], int, int, bool]],
) -> None:
    document = StoredDocument(engine, collection="edited")  # a new one each would take most of the time
    live = TEXTS[:first]
    document.upload(live)
    for steps, size, calls, is_revoked in story:
        texts = edited(live, steps)
        document.begin()
        for at in range(0, len(texts), size):
            part = chunks_of(texts[at : at + size], first=at)
            has_died = document.write_until_stopped(part, calls)
            again = document.write(part, fence=2)
            known = [chunk.text in live for chunk in part]
            assert again.embedded + again.reused + again.skipped == len(part)
            assert again.embedded <= known.count(False)
            assert again.reused <= known.count(True)
            assert has_died or again.skipped == len(part)
        if is_revoked:
            document.abandon()
        else:
            document.flip()
            live = texts
        document.assert_holds(live)


def test_a_point_that_is_refused_fails_its_own_task_and_not_those_that_share_its_request(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = StoredDocument(engine, "shared"), StoredDocument(engine, "shared")
    good.upload(TEXTS[:1])
    bad.upload(TEXTS[:1])
    requests, both_wait, upsert = list[int](), threading.Barrier(3), engine.store.upsert

    def watched(name: str, ids: list[str], vectors: np.ndarray, payloads: list[dict[str, object]]) -> None:
        requests.append(len(ids))
        if len(requests) == 1:
            both_wait.wait(WAIT_SECONDS)
            until(lambda: len(engine.upserts._waiting.get(name, ())) == 2)
        upsert(name, ids, vectors, payloads)

    def write(document: StoredDocument, texts: Sequence[str]) -> Counts:
        both_wait.wait(WAIT_SECONDS)
        return document.write(chunks_of(texts))

    monkeypatch.setattr(engine.store, "upsert", watched)
    good.begin()
    bad.begin()
    bad.metadata = {"title": "half \ud800 a surrogate"}
    counted = counts.Counts()
    with ThreadPoolExecutor(3) as threads:
        threads.submit(StoredDocument(engine, "shared").upload, TEXTS[:1])
        written = threads.submit(write, good, TEXTS[1:5]), threads.submit(write, bad, TEXTS[5:9])
        assert written[0].result(WAIT_SECONDS) == Counts(embedded=4, reused=0, skipped=0)
        with pytest.raises(VectorStoreError, match="surrogate"):
            written[1].result(WAIT_SECONDS)
    assert requests == [1, 8, 4, 4]
    assert counted.of("fleet_upsert_seconds_count") == {(): 4}
    assert counted.of("fleet_points_total") == {(): 1 + 4}, "those that were stored, once each"
    good.flip()
    good.assert_holds(TEXTS[1:5])


def test_text_over_the_limit_is_counted_and_said_once_a_document(
    document: StoredDocument, caplog: pytest.LogCaptureFixture
) -> None:
    def count() -> float:
        return REGISTRY.get_sample_value("fleet_truncated_chunks_total") or 0

    before = count()
    texts = ["phở " * 100, "short", "x" * 257, "y" * 256]
    document.upload(texts)
    document.write(chunks_of(["z" * 300], first=4))
    assert count() == before + 3
    told = [record for record in caplog.records if "256 tokens" in record.getMessage()]
    assert len(told) == 1


def test_what_the_lane_refuses_ends_the_task_and_leaves_nothing_behind(
    document: StoredDocument, encoder: KnownEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_one(token_ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        vectors = np.ones((len(lengths), DIM), np.float32)
        vectors[lengths == len("sentence 40")] = np.nan
        return vectors

    document.upload(TEXTS[:3])
    document.begin()
    monkeypatch.setattr(encoder, "encode", break_one)
    with pytest.raises(EmbeddingError, match=r"chunk \d+: .* NaN"):
        document.write(chunks_of(TEXTS[3:]))
    assert len(document.engine.lane._queue) == 0
    assert not document.engine.upserts._waiting
    assert document.store.count(document.name, document.id, generation=2) < len(TEXTS[3:])


def test_a_run_that_stops_takes_back_its_rows_and_its_points(
    document: StoredDocument, encoder: KnownEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go, encode = threading.Event(), threading.Event(), encoder.encode

    def gated(token_ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        begun.set()
        assert go.wait(WAIT_SECONDS)
        return encode(token_ids, lengths)

    monkeypatch.setattr(encoder, "encode", gated)
    document.begin()
    with ThreadPoolExecutor(1) as threads:
        written = threads.submit(document.write, chunks_of(TEXTS))
        assert begun.wait(WAIT_SECONDS)
        document.draining.set()
        with pytest.raises(Stopped):
            written.result(WAIT_SECONDS)
    assert len(document.engine.lane._queue) == 0
    go.set()
    other = StoredDocument(document.engine, document.collection)
    other.upload(TEXTS[:2])  # whatever was in hand is done by now
    assert document.store.count(document.name, document.id) == 0


def test_a_run_that_stops_does_not_end_before_a_request_with_its_points_has(
    document: StoredDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go, upsert = threading.Event(), threading.Event(), document.store.upsert

    def gated(*points: object) -> None:
        begun.set()
        assert go.wait(WAIT_SECONDS)
        upsert(*points)

    monkeypatch.setattr(document.store, "upsert", gated)
    document.begin()
    with ThreadPoolExecutor(1) as threads:
        written = threads.submit(document.write, chunks_of(TEXTS[:3]))
        assert begun.wait(WAIT_SECONDS)
        document.draining.set()
        with pytest.raises(TimeoutError):
            written.result(timeout=0.5)
        go.set()
        with pytest.raises(Stopped):
            written.result(WAIT_SECONDS)
    assert document.store.count(document.name, document.id) == 3
