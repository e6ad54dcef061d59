"""C13: files that crash, hang or fill whoever reads them."""

import os
import signal
import time

import psutil

from tests.chaos.checker import check
from tests.chaos.client import Accepted, Client
from tests.chaos.corpus import File, pdf_file, text_file
from tests.chaos.report import Result
from tests.chaos.stack import Stack, wait_until

MAX_STARTS = 4
HANG_SECONDS = "8"
SMALL_MEMORY = "200000000"
PAGES = 5_000
TRIES = 5
PAGE_CHARACTERS = 12


def poison(stack: Stack, seed: int) -> Result:
    """C13: a crash, a hang, too much memory and a file that kills the pod: each FAILED with its code."""
    result = Result("C13")
    worker = "documents-0"
    with Client(stack, "c13") as client:
        stack.replace(worker, FLEET_SANDBOX_MEMORY=SMALL_MEMORY)
        try:
            before = client.upload(text_file("neighbour-before", seed, 2_000))
            # One character outside the basic plane makes each of them take four bytes in the reader.
            text = "\N{SHIP}" + "harbour tide ferry " * 800_000
            memory = client.upload(File("memory.txt", text.encode(), {}))
            _ends(client, memory, ("sandbox_memory",), result)
            stack.replace(worker, CELERY_TASK_TIME_LIMIT=HANG_SECONDS)
            _one(stack, client, "crash", seed, signal.SIGSEGV, ("sandbox_crash",), result)
            _one(stack, client, "hang", seed, signal.SIGSTOP, ("sandbox_timeout", "time_limit"), result)
            _pod_killer(stack, client, seed, result)
            after = client.upload(text_file("neighbour-after", seed, 2_000))
            for neighbour in (before, after):
                client.wait_state(neighbour, "READY", seconds=60)
        finally:
            stack.replace(worker)
        result.verdict = check(client)
        if result.verdict.failed_coded != 4:
            result.problems.append(f"{result.verdict.failed_coded} of 4 poisonous files FAILED")
    return result


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
        wait_until(lambda: len(_grown(stack)) >= stack.shape.threads[0], "all children are ready", 30)
        accepted = client.upload(pdf_file(f"{name}-{attempt}", seed, PAGES, PAGE_CHARACTERS))
        client.wait_work(accepted, "parse")
        for child in stack.sandboxes("documents-0"):
            child.send_signal(number)
        if client.wait_state(accepted, "FAILED", "READY", seconds=60)["state"] == "FAILED":
            result.hits["sandbox"] += 1
            _ends(client, accepted, codes, result)
            return
    result.problems.append(f"{name}: no signal came while the file was read")


def _grown(stack: Stack) -> list[psutil.Process]:
    """Return the sandbox children that wait for a file: they sleep, their tokenizer loaded."""
    children = stack.sandboxes("documents-0")
    return [
        one
        for one in children
        if one.status() == psutil.STATUS_SLEEPING and time.time() - one.create_time() > 3
    ]


def _pod_killer(stack: Stack, client: Client, seed: int, result: Result) -> None:
    """Kill the worker each time it has taken this file."""
    accepted = client.upload(pdf_file("pod-killer", seed, PAGES, PAGE_CHARACTERS))
    killed: set[int] = set()

    def kill_or_ended() -> bool:
        row = client.task(accepted)
        pid = stack.pid("documents-0")
        if row["state"] == "STARTED" and f":{pid}:" in row["owner"] and pid not in killed:
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
