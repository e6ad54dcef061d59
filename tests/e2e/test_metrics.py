"""What a real fleet shows after real uploads, and that the docs list all of what its workers do."""

import re
import time
from collections.abc import Iterator

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.api.serving import fetch
from tests.counts import Labels, values
from tests.e2e.fleet import ROOT, Fleet, running_fleet, until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("metrics")]

NOTE = "\n\n".join(f"Cà phê phin cần nước nóng, lần thứ {number}." for number in range(8)).encode()
TORN = b"%PDF-1.7\nnothing that a reader would know"
PROCESSES = {"documents": "document worker", "embeddings": "embedding worker"}


@pytest.fixture(scope="module")
def new_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet that nobody else has used: what it counts is known."""
    with running_fleet(tmp_path_factory.mktemp("metrics") / "data", FLEET_CHUNKS_PER_TASK="2") as fleet:
        yield fleet


def page(fleet: Fleet, member: str) -> str:
    if member == "api":
        return fetch(f"{fleet.ready['url']}/metrics").raise_for_status().text
    port = psutil.Process(fleet.pid(member)).environ()["FLEET_PROBE_PORT"]
    return fetch(f"http://127.0.0.1:{port}/metrics").raise_for_status().text


def shown(fleet: Fleet, member: str, name: str) -> dict[Labels, float]:
    samples = values(list(text_string_to_metric_families(page(fleet, member))))
    return {labels: value for (sample, labels), value in samples.items() if sample == name}


def counted(fleet: Fleet, member: str, name: str) -> dict[Labels, float]:
    return {labels: value for labels, value in shown(fleet, member, name).items() if value}


@pytest.mark.parametrize(
    ("member", "name", "count"),
    [
        ("documents", "fleet_document_bytes_total", 4),
        ("documents", "fleet_documents_total", 4),
        ("documents", "fleet_parse_seconds_count", 4),
        ("documents", "fleet_sandbox_kills_total", 7),
        ("documents", "fleet_task_seconds_count", 2),
        ("documents", "fleet_task_wait_seconds_count", 1),
        ("embeddings", "fleet_points_total", 1),
        ("embeddings", "fleet_task_redeliveries_total", 1),
        ("embeddings", "fleet_task_seconds_count", 2),
        ("api", "fleet_upload_to_searchable_seconds_count", 1),
        ("embeddings", "fleet_upsert_seconds_count", 1),
        ("embeddings", "fleet_vector_store_errors_total", 3),
    ],
)
def test_a_fresh_fleet_shows_zeros(new_fleet: Fleet, member: str, name: str, count: int) -> None:
    assert [*shown(new_fleet, member, name).values()] == [0] * count


def test_uploads_are_counted_by_how_they_ended(new_fleet: Fleet) -> None:
    began = time.monotonic()
    good = new_fleet.upload(("ca-phe.md", NOTE), "metrics", chunk_size=60, chunk_overlap=0)
    torn = new_fleet.upload(("torn.pdf", TORN), "metrics")
    document = new_fleet.ended(good["document_id"])
    assert (document["state"], new_fleet.ended(torn["document_id"])["state"]) == ("READY", "FAILED")
    chunks = document["progress"]["total"]
    parts = len(new_fleet.task(good["task_id"])["result"]["embedding_task_ids"])
    assert parts > 1

    documents = {("", "SUCCESS", "process_document"): 1, ("corrupt", "FAILURE", "process_document"): 1}
    until(lambda: counted(new_fleet, "documents", "fleet_tasks_total") == documents, "both runs are counted")
    of_documents = {
        "fleet_documents_total": {("md",): 1},
        "fleet_document_bytes_total": {("md",): len(NOTE)},
        "fleet_document_pages_total": {},
        "fleet_document_chunks_total": {("md",): chunks},
        "fleet_parse_seconds_count": {("md",): 1},
        "fleet_task_seconds_count": {("parse", "process_document"): 2, ("store", "process_document"): 1},
        "fleet_task_wait_seconds_count": {("documents",): 2},
        "fleet_task_redeliveries_total": {},
        "fleet_sandbox_kills_total": {},
    }
    assert {name: counted(new_fleet, "documents", name) for name in of_documents} == of_documents

    embeddings = {("", "SUCCESS", "generate_embeddings"): parts}
    until(
        lambda: counted(new_fleet, "embeddings", "fleet_tasks_total") == embeddings, "its parts are counted"
    )
    waited = time.monotonic() - began
    of_embeddings = {
        "fleet_task_seconds_count": {(stage, "generate_embeddings"): parts for stage in ("read", "encode")},
        "fleet_task_wait_seconds_count": {("embeddings",): parts},
        "fleet_task_redeliveries_total": {},
        "fleet_points_total": {(): chunks},
        "fleet_vector_store_errors_total": {},
    }
    assert {name: counted(new_fleet, "embeddings", name) for name in of_embeddings} == of_embeddings
    (upserts,) = shown(new_fleet, "embeddings", "fleet_upsert_seconds_count").values()
    assert 1 <= upserts <= parts, "small ones share a request"
    age = "fleet_upload_to_searchable_seconds"
    until(lambda: counted(new_fleet, "api", f"{age}_count") == {(): 1}, "the api counts what became READY")
    (seconds,) = shown(new_fleet, "api", f"{age}_sum").values()
    assert 0 < seconds < waited


def test_the_age_of_an_upload_has_the_bounds_that_alerts_name(new_fleet: Fleet) -> None:
    bounds = {labels[0] for labels in shown(new_fleet, "api", "fleet_upload_to_searchable_seconds_bucket")}
    assert {"0.5", "120.0", "3600.0", "+Inf"} <= bounds


@pytest.mark.parametrize("member", PROCESSES)
def test_the_docs_list_what_a_worker_shows(new_fleet: Fleet, member: str) -> None:
    text = (ROOT / "docs/metrics.md").read_text("utf-8")
    rows = re.findall(r"^\| `(fleet_\w+)(?:{([\w,]+)})?` \| \w+ \| ([^|]+) \|", text, re.MULTILINE)
    listed = {
        name: set(filter(None, labels.split(","))) for name, labels, by in rows if PROCESSES[member] in by
    }
    families = list(text_string_to_metric_families(page(new_fleet, member)))
    found = {
        family.name + ("_total" if family.type == "counter" else ""): {
            label for sample in family.samples for label in sample.labels
        }
        - {"le"}
        for family in families
        if family.name.startswith("fleet_")
    }
    assert listed == found
