"""C9, C10, C11: owners that fall asleep, messages that come back too soon, retries across deaths."""

import json
import os
import signal
import time
from itertools import pairwise

from tests.chaos.client import Accepted, Client
from tests.chaos.corpus import text_file
from tests.chaos.judge.checker import check, points_of
from tests.chaos.judge.report import Result
from tests.chaos.judge.states import pid_of
from tests.chaos.stack import Stack, wait_until

LONG_CHARACTERS = 80_000
TOLD_SECONDS = 15


def wake_up_late(stack: Stack, seed: int) -> Result:
    """C9: a worker stands still for two leases, its document is revoked meanwhile: it writes nothing more."""
    result = Result("C9")
    with Client(stack, "c9") as client:
        accepted = client.upload(text_file("asleep", seed, LONG_CHARACTERS))
        wait_until(lambda: any(points_of(client)), "some points are stored", 60)
        pid = client.wait_work(accepted, "embed")
        os.kill(pid, signal.SIGSTOP)
        result.hits["embed"] += 1
        slept_at = time.monotonic()
        try:
            client.revoke(accepted)
            wait_until(lambda: not any(points_of(client)), "its points are gone", 60)
            left = 2 * stack.shape.lease_seconds - (time.monotonic() - slept_at)
            time.sleep(max(left, 0))
        finally:
            os.kill(pid, signal.SIGCONT)
        _stays_gone(stack, client, result)
        taken_over = client.upload(text_file("taken-over", seed, LONG_CHARACTERS))
        stale = client.wait_work(taken_over, "embed")
        os.kill(stale, signal.SIGSTOP)
        (held,) = [row for row in client.parts(taken_over) if row["state"] == "STARTED"][:1]
        # The new owner stands still as well while the old one wakes: whichever of the two ended the task
        # first would end it for both, and nobody would see that a lost claim was honoured.
        owner = wait_until(
            lambda: _new_owner(client, taken_over, held), "somebody takes it over", 120, poll=0.005
        )
        os.kill(owner, signal.SIGSTOP)
        os.kill(stale, signal.SIGCONT)
        try:
            wait_until(lambda: _was_told(stack, held), "the stale owner learns of it", TOLD_SECONDS)
        except AssertionError as error:
            result.problems.append(str(error))
        finally:
            os.kill(owner, signal.SIGCONT)
        client.wait_state(taken_over, "READY", seconds=120)
        result.verdict = check(client)
    return result


def _stays_gone(stack: Stack, client: Client, result: Result) -> None:
    """Watch until a document that was uploaded after the waking is READY, and a lease longer."""
    witness = client.upload(text_file("witness", 0, 2_000))
    client.wait_state(witness, "READY", seconds=90)
    deadline = time.monotonic() + 5
    late = 0
    while time.monotonic() < deadline:
        late = sum(payload["document_id"] != witness.document_id for _, payload in points_of(client))
        time.sleep(0.2)
    if late:
        result.problems.append(f"a stale owner left {late} points")


def _was_told(stack: Stack, row: dict[str, str]) -> bool:
    """Say whether the run of this claim was ended because its claim is lost."""
    marks = (row["id"], "the claim is lost", f'"fence": {row["fence"]}')
    logs = [stack.log_of(name) for name in stack.names("embeddings")]
    return any(all(mark in line for mark in marks) for log in logs for line in log.splitlines())


def _new_owner(client: Client, accepted: Accepted, held: dict[str, str]) -> int:
    """Return the process that claimed a task after the one that held it; 0: nobody yet."""
    client.stack.tend()
    (row,) = [row for row in client.parts(accepted) if row["id"] == held["id"]]
    return pid_of(row["owner"]) if row["state"] == "STARTED" and row["fence"] != held["fence"] else 0


def outlast_the_visibility_timeout(stack: Stack, seed: int) -> Result:
    """C10: a message comes back while its task runs, as after the visibility timeout: one copy runs."""
    result = Result("C10")
    with Client(stack, "c10") as client:
        accepted = client.upload(text_file("long", seed, LONG_CHARACTERS))
        client.wait_work(accepted, "embed")
        result.hits["embed"] += 1
        copies = 0
        while client.open_documents():
            for message in stack.client.hvals("unacked"):
                # What kombu does with a message that was out for too long.
                raw, _, queue = _restorable(message)
                stack.client.lpush(queue, raw)
                copies += 1
            time.sleep(0.5)
        result.figures["copies"] = float(copies)
        rows = [*client.parts(accepted), client.task(accepted)]
        if fences := [row["fence"] for row in rows if row["fence"] != "1"]:
            result.problems.append(f"a copy was run: fences {fences}")
        if not copies:
            result.problems.append("no message was out while the task ran")
        result.verdict = check(client)
    return result


def _restorable(message: str) -> tuple[str, str, str]:
    raw, exchange, queue = json.loads(message)
    return json.dumps(raw), exchange, queue


def retry_across_a_death(stack: Stack, seed: int) -> Result:
    """C11: an error each time, and a kill -9 while the retry waits: four attempts, then FAILURE."""
    result = Result("C11")
    with Client(stack, "c11") as client:
        worker = stack.names("embeddings")
        for name in worker:
            stack.send(name, signal.SIGSTOP)
        try:
            accepted = client.upload(text_file("unreadable", seed, 2_000))
            (part,) = wait_until(lambda: client.parts(accepted), "its embedding task is there", 60)
            stack.blobs.put(part["chunk_file"], b"no chunk file")
        finally:
            for name in worker:
                stack.send(name, signal.SIGCONT)
        states, starts = [], []

        def step() -> bool:
            stack.tend()
            (row,) = client.parts(accepted) or [{"state": "FAILURE"}]
            if row["state"] == "RETRY" and row["attempt"] not in states:
                states.append(row["attempt"])
                starts.append(float(row["next_at"]))
                if len(states) == 1:
                    for name in worker:
                        stack.send(name, signal.SIGKILL)
                    result.hits["retry"] += 1
            return row["state"] == "FAILURE"

        wait_until(step, "the task has failed for good", 240)
        document = client.wait_state(accepted, "FAILED")
        if states != ["1", "2", "3"]:
            result.problems.append(f"the retries were {states}, not 1, 2, 3")
        if not (document["error"] or {}).get("code"):
            result.problems.append("the failure has no code")
        gaps = [round(after - before, 1) for before, after in pairwise(starts)]
        result.figures |= {f"retry_{number}_gap_s": gap for number, gap in enumerate(gaps, 2)}
        result.verdict = check(client)
    return result
