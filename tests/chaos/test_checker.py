"""The checker finds what is planted: a loss, a duplicate, an orphan, a step back."""

import uuid
from collections.abc import Iterator

import pytest

from tests.chaos.client import Accepted, Client
from tests.chaos.corpus import text_file
from tests.chaos.judge.checker import check
from tests.chaos.judge.plants import plant_duplicate, plant_loss, plant_orphan
from tests.chaos.judge.states import DocumentSeen, StateLog
from tests.chaos.stack import Stack, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.xdist_group("chaos")]


@pytest.fixture
def settled(stack: Stack) -> Iterator[tuple[Client, Accepted]]:
    """A client with one READY document that nothing is wrong with."""
    stack.wait_ready()
    with Client(stack, f"plant-{uuid.uuid4().hex[:8]}") as client:
        accepted = client.upload(text_file("planted", 1, 3_000))
        client.wait_state(accepted, "READY")
        verdict = check(client)
        assert (verdict.ready, verdict.lost, verdict.duplicates, verdict.orphans) == (1, [], [], [])
        yield client, accepted


def test_a_point_that_is_gone_is_a_loss(settled: tuple[Client, Accepted]) -> None:
    client, _ = settled
    plant_loss(client)
    assert len(check(client, 0).lost) == 1


def test_a_document_that_nobody_knows_is_a_loss(settled: tuple[Client, Accepted]) -> None:
    client, accepted = settled
    client.stack.client.delete(f"document:default:{accepted.document_id}")
    assert "nobody knows it" in check(client, 0).lost[0]


def test_a_second_point_of_a_chunk_is_a_duplicate(settled: tuple[Client, Accepted]) -> None:
    client, _ = settled
    plant_duplicate(client)
    assert len(check(client, 0).duplicates) == 1


def test_a_point_of_a_dead_generation_is_an_orphan(settled: tuple[Client, Accepted]) -> None:
    client, _ = settled
    plant_orphan(client)
    assert len(check(client, 0).orphans) == 1


def test_a_chunk_file_that_stays_is_an_orphan(settled: tuple[Client, Accepted]) -> None:
    client, accepted = settled
    client.stack.blobs.put(f"chunks/default/{accepted.document_id}/1/9", b"left over")
    assert len(check(client, 0).orphans) == 1


def test_an_end_that_is_taken_back_is_a_regression(settled: tuple[Client, Accepted]) -> None:
    client, accepted = settled
    client.stack.client.hset(f"task:{accepted.task_id}", "state", "STARTED")
    wait_until(client.log.regressions, "the state log sees it", 5)
    assert check(client, 0).regressions


def test_an_end_that_redis_lost_is_no_regression_unless_it_was_settled() -> None:
    log = StateLog(None)
    looks = [DocumentSeen(0.0, "READY", 1, 1), DocumentSeen(1.0, "EMBEDDING", 1, 0)]
    log.documents = {"settled": [*looks], "in-flight": [*looks]}
    log.forget_documents(but="settled")
    assert {line.split()[1] for line in log.regressions()} == {"settled:"}
