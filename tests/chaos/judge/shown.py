"""What users were shown: the HTTP answers about documents and tasks, five times a second.

The other log (`states`) reads the ledger beside all faults. This one asks the apis as a user does, so
it may be refused while something is down; but what it once was shown to have ended must stay so.
"""

import itertools
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import httpx

from tests.chaos.judge.looks import Looks

TASKS_A_TURN = 8
PAGE = 1000
ENDED = {"READY", "FAILED", "REVOKED", "SUCCESS", "FAILURE"}
UNKNOWN = "404"
EXPIRED = "410"


class ShownLog(Looks):
    """Asks each api in turn: one list of the collection's documents, and some tasks one by one.

    Args:
        urls: of the apis.
        headers: that name the user.
        collection: whose documents are listed.

    Attributes:
        asked: requests that were answered with 200, 404 or 410.
        refused: requests that got no such answer, as is allowed while something is down.
    """

    def __init__(self, urls: Sequence[str], headers: Mapping[str, str], collection: str) -> None:
        super().__init__("shown-log")
        self._urls, self._collection = itertools.cycle(urls), collection
        self._http = httpx.Client(headers=dict(headers), timeout=10, trust_env=False)
        self._tasks: list[str] = []
        self._next = 0
        self._epoch = 0
        self._seen: dict[str, list[tuple[int, str]]] = {}
        self.asked = self.refused = 0

    def track(self, task_id: str) -> None:
        """Ask for a task from now on."""
        with self._lock:
            self._tasks.append(task_id)

    def forget(self) -> None:
        """Begin anew: what was shown so far has been lost, or taken away on purpose."""
        with self._lock:
            self._epoch += 1
            self._seen.clear()

    def regressions(self) -> list[str]:
        """Return where an end was followed by something else, and what became unknown."""
        with self._lock:
            seen = {name: list(looks) for name, looks in self._seen.items()}
        found = []
        for name, looks in seen.items():
            for (generation, before), (later_generation, after) in pairwise(looks):
                same = generation == later_generation and before in ENDED and after != EXPIRED
                if same or (after == UNKNOWN and before != EXPIRED) or later_generation < generation:
                    found.append(f"HTTP showed {name} as {before}, then as {after}")
        return found

    def look(self) -> None:
        """Ask the next api."""
        url = next(self._urls)
        try:
            self._ask(f"{url}/api/v1")
        except httpx.HTTPError:
            self.refused += 1

    def _ask(self, url: str) -> None:
        with self._lock:
            epoch = self._epoch
            count = len(self._tasks)
            tasks = [self._tasks[(self._next + n) % count] for n in range(min(TASKS_A_TURN, count))]
            self._next += TASKS_A_TURN
        answer = self._get(f"{url}/documents?collection={self._collection}&limit={PAGE}")
        for document in (answer or {}).get("documents", ()):
            self._note(epoch, f"document {document['id']}", document["generation"], document["state"])
        for task_id in tasks:
            if answer := self._get(f"{url}/tasks/{task_id}"):
                self._note(epoch, f"task {task_id}", 0, answer["status"])

    def _get(self, url: str) -> dict[str, Any] | None:
        """Return what was answered; None where the api could not say."""
        answer = self._http.get(url)
        if answer.status_code in (httpx.codes.NOT_FOUND, httpx.codes.GONE):
            self.asked += 1
            return {"status": str(answer.status_code)}
        if not answer.is_success:
            self.refused += 1
            return None
        self.asked += 1
        return dict(answer.json())

    def _note(self, epoch: int, name: str, generation: int, state: str) -> None:
        with self._lock:
            if epoch != self._epoch:
                return  # asked before `forget`
            looks = self._seen.setdefault(name, [])
            if not looks or looks[-1] != (generation, state):
                looks.append((generation, state))

    def __exit__(self, *details: Any) -> None:
        super().__exit__(*details)
        self._http.close()
