import pytest

from embedfleet.contracts.jobs import ProcessDocument, Queue
from embedfleet.contracts.routes import Routes


@pytest.mark.parametrize(
    ("size", "queue"),
    [
        (0, "documents"),
        (999, "documents"),
        (1000, "documents-large"),
        (99_999, "documents-large"),
        (100_000, "documents-huge"),
        (10**12, "documents-huge"),
    ],
)
def test_the_size_of_a_file_decides_where_it_waits(size: int, queue: str) -> None:
    assert Routes.parse("documents-large=1000, documents-huge=100000").of(size) == queue


def test_without_rules_all_files_wait_on_documents() -> None:
    routes = Routes.parse("")
    assert routes.of(10**12) == Queue.DOCUMENTS
    assert routes.queues == tuple(Queue)


def test_only_document_workers_take_the_other_queues() -> None:
    routes = Routes.parse("documents-large=5")
    assert routes.queues == ("documents", "embeddings", "documents-large")
    assert routes.taken_by(Queue.DOCUMENTS) == ("documents", "documents-large")
    assert routes.taken_by(Queue.EMBEDDINGS) == ("embeddings",)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "documents-large",
            "documents-large=",
            "documents-large=x",
            "documents-large=0",
            "documents-large=-1",
        ),
        *("documents-Large=1", "documents-=5", "documents=5", "embeddings=5", "=5"),
        *("due=5", "load=5", "unacked=5"),  # keys of the ledger and of Celery
    ],
)
def test_a_rule_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must look like documents-large=20000000"):
        Routes.parse(text)


@pytest.mark.parametrize("text", ["documents-a=1,documents-b=1", "documents-a=1,documents-a=2"])
def test_rules_that_contradict_each_other_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a name and a size of its own"):
        Routes.parse(text)


def test_where_a_job_waits_is_not_in_its_message() -> None:
    job = ProcessDocument(task_id="t").on("large")
    assert job.destination == "large"
    assert job.model_dump() == {"task_id": "t", "sequence": 0}
    assert job.on("documents") == ProcessDocument(task_id="t")
    assert ProcessDocument(task_id="t").destination == "documents"
