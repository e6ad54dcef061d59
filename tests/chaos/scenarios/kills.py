"""C1, C2, C8: processes that die, or are asked to end, in the middle of work."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

from tests.chaos.client import Accepted, Client
from tests.chaos.corpus import pdf_file, text_file
from tests.chaos.harm.faults import EXACT, is_busy, kill_at
from tests.chaos.judge.checker import check, points_of
from tests.chaos.judge.report import Result
from tests.chaos.load import ForeignLoad
from tests.chaos.stack import Stack, wait_until

EMBED_CHARACTERS = 40_000
DRAIN_CHARACTERS = 100_000
PARSE_PAGES = 2_000
PAGE_CHARACTERS = 12
CHILD_TRIES = 5
EXIT_SECONDS = 5


def kill_at_the_unacked_write(stack: Stack, seed: int) -> Result:
    """C1: a worker dies between BRPOP and the write to `unacked`: the message is in no key of Redis."""
    result = Result("C1")
    with Client(stack, "c1") as client:
        for queue in ("documents", "embeddings"):
            victims: list[int] = []

            def kill(port: int, victims: list[int] = victims) -> None:
                name = stack.owner_of_port(port)
                victims.append(stack.pid(name) if name else 0)
                stack.send(name, signal.SIGKILL)

            def takes(words: list[bytes], queue: bytes = queue.encode()) -> bool:
                return (
                    words[0].upper() == b"HSET" and words[1] == b"unacked" and b'"' + queue + b'"' in words[3]
                )

            sprung = stack.relay.trap(takes, kill)
            accepted = client.upload(text_file(f"popped-{queue}", seed, 3_000))
            wait_until(sprung.is_set, f"a message of {queue} is popped", 20)
            died_at = time.monotonic()
            client.wait_state(accepted, "READY", seconds=60)
            result.recovery_s = max(result.recovery_s, time.monotonic() - died_at)
            result.hits["queue"] += 1
            if not victims[0]:
                result.problems.append(f"nobody of ours took the message of {queue}")
        result.verdict = check(client)
    return result


def kill_in_the_middle(stack: Stack, seed: int) -> Result:
    """C2: kill -9 of a worker while it parses and while it embeds, and of a sandbox child."""
    result = Result("C2")
    with Client(stack, "c2") as client:
        accepted = client.upload(pdf_file("parse", seed, PARSE_PAGES, PAGE_CHARACTERS))
        _kill_working(stack, client, accepted, "parse", result)
        accepted = client.upload(text_file("embed", seed, EMBED_CHARACTERS))
        _kill_working(stack, client, accepted, "embed", result)
        _kill_the_child(stack, client, seed, result)
        for number in range(stack.shape.exact_kills):
            for stage in EXACT:
                _kill_exactly(stack, client, stage, f"{stage}-{number}", seed, result)
        client.wait_all(90)
        result.verdict = check(client)
    return result


def terminate_with_work(stack: Stack, seed: int) -> Result:
    """C8: SIGTERM, twice, with work running: the worker ends in its grace and hands everything back."""
    result = Result("C8")
    with Client(stack, "c8") as client:
        _drain(
            stack,
            client,
            client.upload(pdf_file("drain", seed, PARSE_PAGES, PAGE_CHARACTERS)),
            "parse",
            result,
        )
        _drain(stack, client, client.upload(text_file("drain", seed, DRAIN_CHARACTERS)), "embed", result)
        result.verdict = check(client)
    return result


def _drain(stack: Stack, client: Client, accepted: Accepted, work: str, result: Result) -> None:
    if work == "embed":
        wait_until(lambda: _stored(client, accepted), "some points are stored", 30, poll=0.02)
    pid = client.wait_work(accepted, work)
    name, stored = stack.name_of(pid), _stored(client, accepted)
    children = stack.sandboxes(name)
    start, load = time.monotonic(), ForeignLoad()
    stack.send(name, signal.SIGTERM)
    stack.send(name, signal.SIGTERM)
    code, seconds = stack.wait_ended(name, 40)
    rows = client.parts(accepted) if work == "embed" else [client.task(accepted)]
    result.hits[work] += 1
    allowed = round(EXIT_SECONDS * load.stretch, 1)
    result.figures |= {f"{work}_exit_s": round(seconds, 2), f"{work}_exit_allowed_s": allowed}
    if code != 0 or seconds > allowed:
        result.problems.append(f"{name} ended with {code} after {seconds:.1f} s, not 0 within {allowed} s")
    if left := [child.pid for child in children if child.is_running() and child.status() != "zombie"]:
        result.problems.append(f"{name} left its children {left}")
    if held := [row for row in rows if row["state"] == "STARTED" and f":{pid}:" in row["owner"]]:
        result.problems.append(f"{name} ended and still holds {len(held)} leases")
    client.wait_state(accepted, "READY", seconds=60)
    result.recovery_s = max(result.recovery_s, client.log.released_after(pid, start) - start)
    rows = client.tasks(accepted)
    if spent := [row["id"] for row in rows if int(row["deaths"]) + int(row["attempt"])]:
        result.problems.append(f"the drain of {name} was counted as a death or an attempt of {spent}")
    skipped = sum(json.loads(row["result"]).get("skipped", 0) for row in rows)
    result.figures[f"{work}_kept"] = skipped
    if skipped < stored:
        result.problems.append(f"{stored} chunks were stored before the drain, and only {skipped} were kept")


def _stored(client: Client, accepted: Accepted) -> int:
    return sum(payload["document_id"] == accepted.document_id for _, payload in points_of(client))


def _kill_working(stack: Stack, client: Client, accepted: Accepted, work: str, result: Result) -> None:
    pid = client.wait_work(accepted, work)
    died_at = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    stack.wait_ended(stack.name_of(pid), 10)
    if client.document(accepted).get("state") in ("READY", "FAILED"):
        result.problems.append(f"{accepted.file.name}: the kill came after the work")
    client.wait_state(accepted, "READY", seconds=90)
    result.hits[work] += 1
    result.recovery_s = max(result.recovery_s, client.log.released_after(pid, died_at) - died_at)


def _kill_exactly(stack: Stack, client: Client, stage: str, name: str, seed: int, result: Result) -> None:
    """Kill whoever sends the one request that a stage ends with, before it has arrived."""
    stack.tend()
    stack.wait_ready()
    with ThreadPoolExecutor(1) as pool:
        uploading = pool.submit(client.try_upload, text_file(f"exactly-{name}", seed, 3_000))
        death = kill_at(stack, stage, 30)
        uploading.result()
    if death is None:
        result.problems.append(f"nobody was caught at the stage {stage}")
    else:
        result.hits[stage] += 1


def _kill_the_child(stack: Stack, client: Client, seed: int, result: Result) -> None:
    """Kill the sandbox child that reads a file: that file is read again."""
    for number in range(CHILD_TRIES):
        accepted = client.upload(pdf_file(f"child-{number}", seed, 2 * PARSE_PAGES, PAGE_CHARACTERS))
        pid = client.wait_work(accepted, "parse")
        if busy := [one for one in stack.sandboxes(stack.name_of(pid)) if is_busy(one)]:
            busy[0].kill()
            result.hits["sandbox"] += 1
            break
    else:
        result.problems.append("no sandbox child was found at work")
    document = client.wait_state(accepted, "READY", "FAILED", seconds=60)
    if document["state"] == "FAILED":
        result.problems.append(f"a killed child failed its good file: {document['error']['code']}")
