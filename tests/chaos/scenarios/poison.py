"""C13: files that crash, hang or fill whoever reads them."""

import os
import signal
import time

import psutil

from tests.chaos.client import Accepted, Client
from tests.chaos.corpus import File, pdf_file, text_file
from tests.chaos.judge.checker import check
from tests.chaos.judge.report import Result
from tests.chaos.judge.states import pid_of
from tests.chaos.stack import Stack, wait_until

MAX_STARTS = 4
HANG_SECONDS = "8"
SMALL_MEMORY = "200000000"
PAGES = 5_000
TRIES = 5
PAGE_CHARACTERS = 12
GROWN_SECONDS = 3


def poison(stack: Stack, seed: int) -> Result:
    """C13: a crash, a hang, too much memory and a file that kills the pod: each FAILED with its code."""
    result = Result("C13")
    workers = stack.names("documents")
    with Client(stack, "c13") as client:
        _replace_all(stack, workers, FLEET_SANDBOX_MEMORY=SMALL_MEMORY)
        try:
            before = client.upload(text_file("neighbour-before", seed, 2_000))
            # One character outside the basic plane makes each of them take four bytes in the reader.
            text = "\N{SHIP}" + "harbour tide ferry " * 800_000
            memory = client.upload(File("memory.txt", text.encode(), {}))
            _ends(client, memory, ("sandbox_memory",), result)
            _replace_all(stack, workers, CELERY_TASK_TIME_LIMIT=HANG_SECONDS)
            _one(stack, client, "crash", seed, signal.SIGSEGV, ("sandbox_crash",), result)
            _one(stack, client, "hang", seed, signal.SIGSTOP, ("sandbox_timeout", "time_limit"), result)
            _pod_killer(stack, client, seed, result)
            after = client.upload(text_file("neighbour-after", seed, 2_000))
            for neighbour in (before, after):
                client.wait_state(neighbour, "READY", seconds=60)
        finally:
            _replace_all(stack, workers)
        result.verdict = check(client)
        if result.verdict.failed_coded != 4:
            result.problems.append(f"{result.verdict.failed_coded} of 4 poisonous files FAILED")
    return result


def _replace_all(stack: Stack, workers: list[str], **variables: str) -> None:
    for worker in workers:
        stack.replace(worker, **variables)


def _one(
    stack: Stack,
    client: Client,
    name: str,
    seed: int,
    number: signal.Signals,
    codes: tuple[str, ...],
    result: Result,
) -> None:
    """Send a signal to whoever reads this file, as its bug would."""
    for attempt in range(TRIES):
        # All children get the signal: none of them may be one that is just being started.
        wait_until(lambda: _are_grown(stack), "all children are ready", 30)
        accepted = client.upload(pdf_file(f"{name}-{attempt}", seed, PAGES, PAGE_CHARACTERS))
        reader = stack.name_of(client.wait_work(accepted, "parse"))
        for child in stack.sandboxes(reader):
            child.send_signal(number)
        if client.wait_state(accepted, "FAILED", "READY", seconds=60)["state"] == "FAILED":
            result.hits["sandbox"] += 1
            _ends(client, accepted, codes, result)
            return
    result.problems.append(f"{name}: no signal came while the file was read")


def _are_grown(stack: Stack) -> bool:
    """Say whether all sandbox children wait for a file: they sleep, their tokenizer loaded."""
    children = [child for name in stack.names("documents") for child in stack.sandboxes(name)]
    grown = [
        one
        for one in children
        if one.status() == psutil.STATUS_SLEEPING and time.time() - one.create_time() > GROWN_SECONDS
    ]
    return len(grown) >= stack.shape.threads[0] * len(stack.names("documents"))


def _pod_killer(stack: Stack, client: Client, seed: int, result: Result) -> None:
    """Kill the worker each time it has taken this file."""
    accepted = client.upload(pdf_file("pod-killer", seed, PAGES, PAGE_CHARACTERS))
    killed: set[int] = set()

    def kill_or_ended() -> bool:
        row = client.task(accepted)
        pid = pid_of(row.get("owner"))
        if row["state"] == "STARTED" and stack.name_of(pid) and pid not in killed:
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)
        stack.tend()
        return row["state"] == "FAILURE"

    start = time.monotonic()
    wait_until(kill_or_ended, "the pod killer is given up", 120, poll=0.01)
    result.figures["given_up_after_s"] = round(time.monotonic() - start, 1)
    result.hits["parse"] += len(killed)
    _ends(client, accepted, ("poison",), result)


def _ends(client: Client, accepted: Accepted, codes: tuple[str, ...], result: Result) -> None:
    document = client.wait_state(accepted, "FAILED", "READY", seconds=60)
    code, starts = (document["error"] or {}).get("code"), int(client.task(accepted)["fence"])
    if code not in codes:
        result.problems.append(f"{accepted.file.name} is {document['state']} {code}, not {codes}")
    if starts > MAX_STARTS:
        result.problems.append(f"{accepted.file.name} was started {starts} times")
    result.figures[f"{accepted.file.name}_starts"] = starts
