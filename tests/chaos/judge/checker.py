"""Set algebra over ledger, blobs and Qdrant: what was promised, what is there, what should not be."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from embedfleet.contracts.documents import Document
from embedfleet.contracts.states import TERMINAL_DOCUMENT_STATES, DocumentState
from tests.chaos.client import Client

PAGE_POINTS = 1000
SETTLE_SECONDS = 30.0


@dataclass(slots=True)
class Verdict:
    """What a scenario's documents came to; each list has one line a finding.

    Attributes:
        accepted: uploads answered 202.
        ready: documents READY with exactly the chunks that were expected.
        failed_coded: documents FAILED with a code.
        revoked: documents REVOKED.
        lost: accepted documents without an end, without a code, or READY without all their points.
        duplicates: chunks with more than one point, points that no chunk asks for, uploads made twice.
        orphans: points, chunk files, manifests and index entries of nothing that lives.
        regressions: ends that were followed by something else.
    """

    accepted: int = 0
    ready: int = 0
    failed_coded: int = 0
    revoked: int = 0
    lost: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    regressions: list[str] = field(default_factory=list)


def check(client: Client, settle_seconds: float = SETTLE_SECONDS) -> Verdict:
    """Judge one client's collection; leftovers may take `settle_seconds` to be cleared up."""
    if client.stack.before_check:
        client.stack.before_check(client)
    deadline = time.monotonic() + settle_seconds
    while True:
        verdict = _look(client)
        if not (verdict.orphans or verdict.lost or verdict.duplicates) or time.monotonic() > deadline:
            return verdict
        time.sleep(0.5)


def points_of(client: Client) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the id and payload of every point of the client's collection."""
    offset: Any = None
    while True:
        body = {"limit": PAGE_POINTS, "with_payload": True, "with_vector": False, "offset": offset}
        url = f"{client.stack.qdrant.url}/collections/{client.qdrant_collection}/points/scroll"
        # Without `verify=False` every request reads all CA certificates, for plain HTTP.
        answer = httpx.post(url, json=body, timeout=60, trust_env=False, verify=False)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return
        result = answer.raise_for_status().json()["result"]
        for point in result["points"]:
            yield point["id"], point["payload"]
        offset = result.get("next_page_offset")
        if offset is None:
            return


def _look(client: Client) -> Verdict:
    promises = client.promises
    verdict = Verdict(
        accepted=len({one.document_id for one in promises.accepted}),
        regressions=client.log.regressions() + client.shown.regressions(),
    )
    ids = {one.document_id for one in promises.accepted} | {client.id_of(f) for f in promises.unanswered}
    documents = client.stack.ledger.documents_by_id("default", sorted(ids))
    wanted = {one.document_id: one.file.chunks for one in promises.accepted}
    wanted |= {client.id_of(file): file.chunks for file in promises.unanswered}
    points = list(points_of(client))
    for one in promises.accepted:
        if one.document_id not in documents:
            verdict.lost.append(f"{one.file.name}: accepted as {one.document_id}, and nobody knows it")
    for document in documents.values():
        _judge_document(document, wanted[document.id], points, verdict)
    _find_duplicates(points, verdict)
    _find_orphan_points(points, documents, verdict)
    _find_orphan_blobs(client, documents, verdict)
    _find_orphan_keys(client, documents, verdict)
    return verdict


def _judge_document(
    document: Document, wanted: dict[int, str], points: list[tuple[str, dict[str, Any]]], verdict: Verdict
) -> None:
    name = f"{document.filename} ({document.id}, generation {document.generation})"
    if document.state not in TERMINAL_DOCUMENT_STATES:
        verdict.lost.append(f"{name}: still {document.state}")
    elif document.state is DocumentState.REVOKED:
        verdict.revoked += 1
    elif document.state is DocumentState.FAILED:
        if (document.error or {}).get("code"):
            verdict.failed_coded += 1
        else:
            verdict.lost.append(f"{name}: FAILED without a code")
    else:
        found = {
            payload["chunk_index"]: payload["text_hash"]
            for _, payload in points
            if (payload["document_id"], payload["generation"]) == (document.id, document.live_generation)
        }
        if missing := sorted(wanted.keys() - found.keys()):
            verdict.lost.append(f"{name}: READY without chunks {missing[:5]} ({len(missing)})")
        elif extra := sorted(found.keys() - wanted.keys()):
            verdict.duplicates.append(f"{name}: chunks {extra[:5]} ({len(extra)}) that it hasn't")
        elif found != wanted:
            verdict.lost.append(f"{name}: READY with another text in some chunk")
        elif document.live_generation != document.generation:
            verdict.lost.append(f"{name}: READY but generation {document.live_generation} lives")
        else:
            verdict.ready += 1


def _find_duplicates(points: list[tuple[str, dict[str, Any]]], verdict: Verdict) -> None:
    places = Counter(
        (payload["document_id"], payload["generation"], payload["chunk_index"]) for _, payload in points
    )
    verdict.duplicates += [f"{count} points of {place}" for place, count in places.items() if count > 1]


def _find_orphan_points(
    points: list[tuple[str, dict[str, Any]]], documents: dict[str, Document], verdict: Verdict
) -> None:
    lives: Counter[tuple[str, int]] = Counter()
    for _, payload in points:
        document, generation = documents.get(payload["document_id"]), payload["generation"]
        building = document and document.state not in TERMINAL_DOCUMENT_STATES
        if not document or not (generation == document.live_generation or building):
            lives[payload["document_id"], generation] += 1
    verdict.orphans += [
        f"{count} points of generation {generation} of {document_id}"
        for (document_id, generation), count in lives.items()
    ]


def _find_orphan_blobs(client: Client, documents: dict[str, Document], verdict: Verdict) -> None:
    blobs = client.stack.blobs
    ended = {one.id: one for one in documents.values() if one.state in TERMINAL_DOCUMENT_STATES}
    for document in ended.values():
        files = list(blobs.keys(f"chunks/{document.tenant}/{document.id}"))
        if files:
            verdict.orphans.append(f"{len(files)} chunk files of {document.id}")
    tasks = {one.task_id for one in client.promises.accepted if one.document_id in ended}
    tasks |= {document.task_id for document in ended.values()}
    for key in blobs.keys("pending"):
        if key.removeprefix("pending/") in tasks:
            verdict.orphans.append(f"the manifest {key} of an upload that has ended")


def _find_orphan_keys(client: Client, documents: dict[str, Document], verdict: Verdict) -> None:
    """Find rows of finished documents that the lists of unfinished work still name."""
    redis, tenant = client.stack.client, "default"
    lists = ["leases:documents", "leases:embeddings", "due"]
    lists += [f"index:tasks:{tenant}:{state}" for state in ("PENDING", "STARTED", "RETRY")]
    with client.stack.client.pipeline(transaction=False) as pipe:
        for key in lists:
            pipe.zrange(key, 0, -1)
        members = pipe.execute()
    ended = {one.id for one in documents.values() if one.state in TERMINAL_DOCUMENT_STATES}
    for key, ids in zip(lists, members, strict=True):
        for task_id in ids:
            if redis.hget(f"task:{task_id}", "document") in ended:
                verdict.orphans.append(f"{key} names the task {task_id} of a document that has ended")
