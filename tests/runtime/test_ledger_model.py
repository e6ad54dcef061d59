"""Random interleavings of all edges: no illegal state, no effect twice, no index out of step."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from embedfleet.contracts.documents import Document
from embedfleet.contracts.errors import EmbeddingError
from embedfleet.contracts.jobs import GenerateEmbeddings, Job, ProcessDocument, Queue
from embedfleet.contracts.states import (
    TERMINAL_DOCUMENT_STATES,
    TERMINAL_TASK_STATES,
    DocumentState,
    TaskState,
)
from embedfleet.local.redis import RedisServer
from embedfleet.runtime.ledger import calls
from embedfleet.runtime.ledger.audit import LedgerAudit
from embedfleet.runtime.ledger.records import Claim, Part, Pulse, Task
from embedfleet.runtime.ledger.redis_client import connect
from embedfleet.runtime.settings import LedgerSettings
from tests.runtime.uploads import upload

KEYS = ("a.txt", "b.txt")
API_KEYS = ("office", "crawler")
TASK_LISTS = [
    "due",
    *(f"{kind}:{queue}" for kind in ("waiting", "leases") for queue in Queue),
    *(f"index:tasks:default:{state}" for state in TaskState),
]
# Reached by a document of two parts, so that claims are refused and let through again.
HIGH_WATER = 7


class Mortal(LedgerAudit):
    """A ledger whose process dies after an edge, before it takes the steps that the edge has left."""

    is_dying = False

    def _go_on(self, answer: dict[str, Any]) -> None:
        if not self.is_dying:
            super()._go_on(answer)


class Edges(RuleBasedStateMachine):
    """Actors that claim, beat, end, die, revoke and upload in any order; messages are lost or doubled."""

    url: str

    jobs = Bundle("jobs")
    claims = Bundle("claims")

    @initialize()
    def start(self) -> None:
        self.redis: Any = connect(self.url)
        self.redis.flushall()
        self.ledger = Mortal(self.redis, self.settings())
        self.count = 0
        self.taken: list[Document] = []
        self.durable: dict[str, Document] = {}
        self.written: list[Document] = []
        self.restored: set[tuple[str, int]] = set()
        self.has_lost = self.has_snapshot = False
        self.tasks: dict[str, TaskState] = {}
        self.ended: set[tuple[str, int]] = set()
        self.live: dict[str, int] = {}

    def settings(self) -> LedgerSettings:
        return LedgerSettings(lease_seconds=600, retry_delays="0.001,0.001", embeddings_high_water=HIGH_WATER)

    @rule(
        target=jobs,
        key=st.sampled_from(KEYS),
        content=st.sampled_from("xyz"),
        uploaded_by=st.sampled_from(API_KEYS),
    )
    def accept(self, key: str, content: str, uploaded_by: str) -> Any:
        self.count += 1
        document = upload(f"t{self.count}", key=key, content=content)
        self.taken.append(document.model_copy(update={"uploaded_by": uploaded_by}))
        return self.accepted(self.taken[-1])

    @precondition(lambda self: self.taken)
    @rule(target=jobs, data=st.data())
    def accept_again(self, data: st.DataObject) -> Any:
        """The answer was lost, or the janitor finds the manifest: taken once, never in a newer's place."""
        document = data.draw(st.sampled_from(self.taken))
        before = self.ledger.document("default", document.id)
        known = self.ledger.task("default", document.task_id)
        jobs = self.accepted(document)
        if known:
            assert jobs == multiple()
            assert self.ledger.document("default", document.id) == before
        return jobs

    @precondition(lambda self: self.taken)
    @rule(target=jobs, data=st.data())
    def renew(self, data: st.DataObject) -> Any:
        """Taken though nothing changed, but once, and only in the place of the generation that it renews.

        Its id is always the same. So while its row is kept it isn't taken again, even where Redis came back
        without the generation that it had made.
        """
        old = data.draw(st.sampled_from(self.taken))
        renewed = old.model_copy(update={"task_id": f"{old.task_id}r"})
        before = self.ledger.document("default", old.id)
        is_new = self.ledger.task("default", renewed.task_id) is None
        acceptance = self.ledger.accept(renewed, replaces=old.task_id)
        replaced = bool(is_new and before and before.task_id == old.task_id)
        assert bool(acceptance.publish) == replaced
        if not replaced:
            assert self.ledger.document("default", old.id) == before
        elif renewed not in self.taken:
            self.taken.append(renewed)
        return multiple(*acceptance.publish)

    def accepted(self, document: Document) -> Any:
        if durable := self.durable.get(document.id):  # as `Intake` does
            self.restore(durable)
        acceptance = self.ledger.accept(document)
        assert acceptance.unchanged == (acceptance.publish == [])
        return multiple(*acceptance.publish)

    @rule(target=claims, job=jobs, owner=st.integers(0, 3))
    def claim(self, job: Job, owner: int) -> Any:
        claimed = self.ledger.claim(job, f"{job.task_id}-{owner}")
        return claimed if isinstance(claimed, Claim) else multiple()

    @rule(held=claims, done=st.integers(0, 2))
    def beat(self, held: Claim, done: int) -> None:
        pulse = Pulse(held.task.id, held.fence, held.owner, "work", done, 2)
        lost = self.ledger.beat(held.task.job.queue, "w", [pulse])
        assert bool(lost) != self.may_write(held)

    def may_write(self, held: Claim) -> bool:
        row = self.ledger.task("default", held.task.id)
        document = self.ledger.document("default", held.document.id)
        if not row or not document or document.generation != row.generation:
            return False
        is_owned = row.state is TaskState.STARTED and (row.fence, row.owner) == (held.fence, held.owner)
        return is_owned and document.state not in TERMINAL_DOCUMENT_STATES

    @rule(target=jobs, held=claims, parts=st.integers(1, 6), dies=st.booleans())
    def end_document_task(self, held: Claim, parts: int, dies: bool) -> Any:
        self.ledger.is_dying = dies
        if held.task.job is not ProcessDocument:
            return multiple()
        pieces = [Part(f"{held.task.id}-{number}", number, 2, "f", 7 * number) for number in range(parts)]
        may_write = self.may_write(held)
        jobs = self.ledger.chunked(held, pieces, {})
        self.check_end(held, jobs, may_write)
        return multiple(*(jobs or []))

    @rule(held=claims)
    def die_after_the_plan(self, held: Claim) -> None:
        if held.task.job is ProcessDocument:
            self.ledger._plan(held, [{"task_id": "never"}])

    @rule(held=claims)
    def end_embedding_task(self, held: Claim) -> None:
        if held.task.job is GenerateEmbeddings:
            may_write = self.may_write(held)
            self.check_end(held, self.ledger.embedded(held, {}), may_write)

    @rule(target=jobs, held=claims)
    def hand_back(self, held: Claim) -> Any:
        return multiple(*(self.ledger.hand_back(held) or []))

    @rule(held=claims, retryable=st.booleans(), dies=st.booleans())
    def fail(self, held: Claim, retryable: bool, dies: bool) -> None:
        self.ledger.is_dying = dies
        self.ledger.fail(held, EmbeddingError("no"), retryable=retryable)

    @rule(held=claims)
    def die(self, held: Claim) -> None:
        row = self.ledger.task("default", held.task.id)
        if row and row.state is TaskState.STARTED:
            self.redis.hset(f"task:{row.id}", "lease_until", 1)
            self.redis.zadd(f"leases:{row.job.queue}", {row.id: 1})

    @rule(target=jobs)
    def scan(self) -> Any:
        self.ledger.scan()
        self.redis.delete("grace")
        for task_id in self.redis.zrange("due", 0, -1):
            self.redis.zadd("due", {task_id: 1})
        for queue in Queue:
            for task_id in self.redis.zrange(f"waiting:{queue}", 0, -1):
                self.redis.hset(f"task:{task_id}", "published_at", 1)
        for step in self.redis.zrange("steps", 0, -1):
            self.redis.zadd("steps", {step: 1})
        return multiple(*self.ledger.scan()[0])

    @rule(target=jobs, job=jobs, parts=st.integers(1, 5), dies=st.booleans())
    def run_through(self, job: Job, parts: int, dies: bool) -> Any:
        claimed = self.ledger.claim(job, "diligent")
        if not isinstance(claimed, Claim):
            return multiple()
        if isinstance(job, GenerateEmbeddings):
            self.end_embedding_task(claimed)
            return multiple()
        return self.end_document_task(claimed, parts, dies)

    @rule(target=claims, held=claims)
    def is_overtaken(self, held: Claim) -> Any:
        self.die(held)
        claimed = self.ledger.claim(held.task.job(task_id=held.task.id), "successor")
        return claimed if isinstance(claimed, Claim) else multiple()

    @rule(target=jobs)
    def scan_until_all_steps_are_taken(self) -> Any:
        jobs: list[Job] = []
        for _ in range(100):
            jobs += self.scan().values
            if not self.redis.exists("steps"):
                break
        assert not self.redis.exists("steps")
        assert not [key for key in self.redis.keys("plan:*") if key.count(":") == 1]
        for document in self.ledger.documents("default", None, 100)[0]:
            rows = [row for row in self.rows_of(document) if row.id != document.task_id]
            if document.state is DocumentState.EMBEDDING:
                assert sum(row.total for row in rows) == document.chunk_count
        for row in self.ledger.tasks("default", list(TaskState), 1000)[0]:
            document = self.ledger.document("default", row.document_id)
            if not document or row.generation < document.generation:
                assert row.state in TERMINAL_TASK_STATES, "it belongs to nothing, and waits for ever"
        return multiple(*jobs)

    @rule(key=st.sampled_from(KEYS), parts=st.integers(1, 3))
    def become_ready(self, key: str, parts: int) -> None:
        """A document that waits for nothing goes all the way."""
        document = self.ledger.document("default", upload(key=key).id)
        if document and document.state is DocumentState.QUEUED:
            self.run_through(ProcessDocument(task_id=document.task_id), parts, False)
            for number in range(parts):
                self.run_through(GenerateEmbeddings(task_id=f"{document.task_id}-{number}"), 1, False)

    @rule(job=jobs, dies=st.booleans())
    def revoke(self, job: Job, dies: bool) -> None:
        self.ledger.is_dying = dies
        self.ledger.revoke("default", job.task_id)

    @rule(document=st.sampled_from(KEYS), dies=st.booleans())
    def delete(self, document: str, dies: bool) -> None:
        self.ledger.is_dying = dies
        row = self.ledger.document("default", upload(key=document).id)
        if row:
            self.ledger.delete("default", row.id, row.generation)
            self.live.pop(row.id, None)
            self.durable.pop(row.id, None)

    @rule()
    def settle(self) -> None:
        for document in self.ledger.unsettled(9):
            if document.state is DocumentState.READY:
                self.durable[document.id] = document
                self.written.append(document)
            elif document.generation == self.durable.get(document.id, document).generation:
                self.durable.pop(document.id, None)
            self.ledger.settled(document, self.ledger.now())

    def restore(self, durable: Document) -> None:
        before = self.ledger.document("default", durable.id)
        is_restored = self.ledger.restore(durable)
        assert not is_restored or durable in self.ledger_is_behind(durable, before)
        after = self.ledger.document("default", durable.id)
        if is_restored:
            assert after == durable
            self.restored.add((durable.id, durable.generation))
        else:
            assert after == before

    def ledger_is_behind(self, durable: Document, row: Document | None) -> list[Document]:
        """Tell in words of its own whether a durable record may replace a row."""
        if not self.has_lost or (row and row.generation > durable.generation):
            return []
        if row and row.generation == durable.generation:
            is_same = row.task_id == durable.task_id
            return (
                [durable] if is_same and row.state not in (DocumentState.READY, DocumentState.REVOKED) else []
            )
        return [durable]

    @precondition(lambda self: self.written)
    @rule(data=st.data())
    def restore_beside_live_work(self, data: st.DataObject) -> None:
        """However old a record is that somebody has read: it never takes the place of what is newer."""
        known = [*self.durable.values()] if self.has_lost else self.written
        if known:
            self.restore(data.draw(st.sampled_from(known)))

    @rule()
    def snapshot(self) -> None:
        self.redis.swapdb(0, 1)
        self.redis.flushdb()
        self.redis.swapdb(0, 1)
        for key in self.redis.keys("*"):
            self.redis.copy(key, key, destination_db=1)
        self.has_snapshot = True

    @precondition(lambda self: self.has_snapshot)
    @rule()
    def come_back_as_of_then(self) -> None:
        """Redis is restored from a snapshot; the janitor compares all durable records with it."""
        self.redis.flushdb()
        self.redis.swapdb(0, 1)
        self.has_snapshot, self.has_lost = False, True
        self.tasks, self.ended, self.live = {}, set(), {}
        for durable in self.durable.values():
            self.restore(durable)
            row = self.ledger.document("default", durable.id)
            if row:
                assert row.generation >= durable.generation
                assert row.generation > durable.generation or row.state in TERMINAL_DOCUMENT_STATES

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), is_listed=st.booleans())
    def mend_a_task(self, data: st.DataObject, is_listed: bool) -> None:
        """Whatever list names a task wrongly, or doesn't: one edge brings all in step."""
        task_id = data.draw(st.sampled_from(sorted(self.tasks)))
        lists = data.draw(st.lists(st.sampled_from(TASK_LISTS), unique=True))
        row = self.ledger.task("default", task_id)
        assert row
        watched = {"due", f"waiting:{row.job.queue}"} - ({"due"} if row.state is TaskState.STARTED else set())
        for key in lists:
            if row.state not in TERMINAL_TASK_STATES and key in watched:
                self.redis.zrem(key, task_id)
            elif is_listed and (key != "due" or row.state in TERMINAL_TASK_STATES):
                self.redis.zadd(key, {task_id: 1}, nx=True)
        self.ledger.mend_task(task_id, "default")

    @rule(key=st.sampled_from(KEYS), is_listed=st.booleans())
    def mend_a_document(self, key: str, is_listed: bool) -> None:
        document = upload(key=key)
        for index in ("index:documents:default", "index:documents:default:notes"):
            if is_listed:
                self.redis.zadd(index, {document.id: 1}, nx=True)
            else:
                self.redis.zrem(index, document.id)
        self.ledger.mend_document("default", document.id, "notes")

    @rule(job=consumes(jobs))
    def lose_a_message(self, job: Job) -> None:
        pass

    @invariant()
    def all_is_in_step(self) -> None:
        """One look at Redis serves all checks: most of this test's time are its round trips."""
        tasks, *_ = self.ledger.tasks("default", list(TaskState), 1000)
        rows, documents = self.hashes("task:"), self.hashes("document:default:")
        self.tasks_move_along_their_edges(tasks)
        self.indexes_are_in_step(rows)
        self.documents_are_listed(set(documents))
        self.documents_are_whole(tasks)
        self.the_load_is_that_of_the_rows([*rows.values()], [*documents.values()])
        self.what_is_planned_will_be_made()

    def hashes(self, prefix: str) -> dict[str, dict[str, str]]:
        keys = self.redis.keys(f"{prefix}*")
        with self.redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.hgetall(key)
            return {key.removeprefix(prefix): row for key, row in zip(keys, pipe.execute(), strict=True)}

    def members(self, *keys: str) -> list[list[str]]:
        with self.redis.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.zrange(key, 0, -1)
            return list(pipe.execute())

    def tasks_move_along_their_edges(self, rows: list[Task]) -> None:
        for row in rows:
            before = self.tasks.get(row.id, TaskState.PENDING)
            assert row.state == before or before not in TERMINAL_TASK_STATES, (row.id, before, row.state)
            self.tasks[row.id] = row.state
        assert set(self.tasks) == {row.id for row in rows}

    def indexes_are_in_step(self, rows: dict[str, dict[str, str]]) -> None:
        indexes = self.members(*(f"index:tasks:default:{state}" for state in TaskState))
        for state, members in zip(TaskState, indexes, strict=True):
            assert set(members) == {key for key, row in rows.items() if row["state"] == state}
        unfinished = {key for key, row in rows.items() if row["state"] not in TERMINAL_TASK_STATES}
        due, *lists = self.members("due", *(f"waiting:{queue}" for queue in Queue))
        waiting = [task_id for members in lists for task_id in members]
        assert sorted(waiting + due) == sorted(unfinished)
        assert {key for key in waiting if rows[key]["state"] == TaskState.STARTED} == set()
        leases = [one for members in self.members(*(f"leases:{queue}" for queue in Queue)) for one in members]
        assert set(leases) == {key for key, row in rows.items() if row["state"] == TaskState.STARTED}

    def documents_are_listed(self, ids: set[str]) -> None:
        for listed in self.members("index:documents:default", "index:documents:default:notes"):
            assert set(listed) == ids

    def documents_are_whole(self, rows: list[Task]) -> None:
        tasks = {row.id: row.state for row in rows}
        for document in self.ledger.documents("default", None, 100)[0]:
            assert 0 <= document.chunks_done <= (document.chunk_count or 0)
            before = self.live.get(document.id, 0)
            assert before <= document.live_generation <= document.generation
            self.live[document.id] = document.live_generation
            if document.state is DocumentState.READY:
                assert document.live_generation == document.generation
                assert document.chunks_done == document.chunk_count
                if (document.id, document.generation) in self.restored:
                    continue
                parts = [state for key, state in tasks.items() if key.startswith(f"{document.task_id}-")]
                assert parts
                assert set(parts) == {TaskState.SUCCESS}
                assert len(parts) * 2 == document.chunk_count
            elif document.state in (DocumentState.FAILED, DocumentState.REVOKED):
                step = f"close:default:{document.id}:{document.generation}"
                mine = {row.state for row in rows if row.id.split("-")[0] == document.task_id}
                assert mine <= TERMINAL_TASK_STATES or self.redis.zscore("steps", step)

    def the_load_is_that_of_the_rows(
        self, rows: list[dict[str, str]], documents: list[dict[str, str]]
    ) -> None:
        expected = Counter()
        for row in rows:
            if row["state"] not in TERMINAL_TASK_STATES:
                expected["tokens"] += int(row.get("tokens", 0))
        for document in documents:
            if document["state"] not in TERMINAL_DOCUMENT_STATES:
                expected["documents"] += 1
                expected[f"documents:default:{document['uploaded_by']}"] += 1
        load = self.redis.hgetall("load")
        resume_at = int(load.pop("resume_at", -1))
        assert {name: int(count) for name, count in load.items()} == +expected
        assert resume_at < expected["tokens"] or resume_at == -1, "nothing would ever end the hold"

    def what_is_planned_will_be_made(self) -> None:
        keys = self.redis.keys("plan:*")
        plans = {key.split(":")[1] for key in keys if key.count(":") == 1}
        steps = {step.split(":")[1] for step in self.redis.zrange("steps", 0, -1) if "spread:" in step}
        assert plans == steps
        for key in keys:
            if key.count(":") > 1:
                assert self.redis.ttl(key) > 0, "the plan of a run that never ended stays for good"

    def rows_of(self, document: Document) -> list[Task]:
        rows, *_ = self.ledger.tasks("default", list(TaskState), 1000)
        return [row for row in rows if row.id.split("-")[0] == document.task_id]

    def check_end(self, held: Claim, answer: Any, may_write: bool) -> None:
        """Check that a task is ended by its owner, of a document that is open, once."""
        row = self.ledger.task("default", held.task.id)
        is_again = (
            row and row.state is TaskState.SUCCESS and (row.fence, row.owner) == (held.fence, held.owner)
        )
        assert (answer is not None) == bool(may_write or is_again)
        if answer is not None and (held.task.id, held.fence) not in self.ended:
            assert held.task.id not in {task_id for task_id, _ in self.ended}
            self.ended.add((held.task.id, held.fence))

    def teardown(self) -> None:
        if hasattr(self, "redis"):
            self.redis.close()


@pytest.mark.slow
def test_no_interleaving_breaks_the_ledger(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "SLICE", 2)
    Edges.url = redis_server.url
    case = Edges.TestCase
    case.settings = settings(
        max_examples=80, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
    )
    case().runTest()
