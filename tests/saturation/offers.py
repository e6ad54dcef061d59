"""Uploads at a given rate, whatever the answers are, and what was answered."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx

from tests.e2e.fleet import Fleet

COLLECTION = "saturation"
SENDERS = 16
WORDS = ("ferry", "bicycle", "harbour", "timetable", "winter", "fare", "ticket", "deck", "engine", "rope")


def documents(seed: int, sentences: int) -> Iterator[tuple[str, bytes]]:
    """Yield names and texts without end; no two alike."""
    dice, number = random.Random(seed), 0
    while True:
        number += 1
        lines = (" ".join(dice.choices(WORDS, k=12)).capitalize() + f" {number}." for _ in range(sentences))
        yield f"{seed}-{number}.txt", "\n".join(lines).encode()


@dataclass
class Tally:
    """What was answered."""

    offered: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    without_retry_after: int = 0
    accepted: list[tuple[str, str]] = field(default_factory=list)
    slowest: float = 0.0


class Offers:
    """Sends documents with API keys in turn.

    Args:
        fleet: the fleet.
        keys: secret of each key and its share of the offers.
        seed: of the texts.
        sentences: length of a document.
    """

    def __init__(self, fleet: Fleet, keys: dict[str, int], seed: int, sentences: int) -> None:
        self.tally = Tally()
        self._http = httpx.Client(
            base_url=str(fleet.http.base_url), timeout=60, limits=httpx.Limits(max_connections=SENDERS)
        )
        self._keys = [secret for secret, share in keys.items() for _ in range(share)]
        self._documents = documents(seed, sentences)
        self._lock = threading.Lock()

    def at_rate(self, rate: float, seconds: float) -> None:
        """Offer `rate` documents a second for some seconds; a late answer delays no other offer."""
        began, number = time.monotonic(), 0
        with ThreadPoolExecutor(SENDERS) as pool:
            while (due := began + number / rate) < began + seconds:
                time.sleep(max(0.0, due - time.monotonic()))
                pool.submit(self.one, self._keys[number % len(self._keys)]).add_done_callback(_raised)
                number += 1

    def one(self, key: str) -> int:
        """Offer one document; return the status that is answered."""
        with self._lock:
            name, text = next(self._documents)
            self.tally.offered += 1
        started = time.monotonic()
        answer = self._http.post(
            "/documents/upload",
            headers={"X-API-Key": key},
            files={"file": (name, text)},
            data={"collection": COLLECTION},
        )
        with self._lock:
            self._note(answer, key, time.monotonic() - started)
        return answer.status_code

    def close(self) -> None:
        self._http.close()

    def _note(self, answer: httpx.Response, key: str, seconds: float) -> None:
        tally = self.tally
        tally.statuses[answer.status_code] += 1
        tally.slowest = max(tally.slowest, seconds)
        if answer.status_code == 202:
            tally.accepted.append((answer.json()["document_id"], key))
            return
        tally.codes[answer.json()["code"]] += 1
        if int(answer.headers.get("retry-after", 0)) < 1:
            tally.without_retry_after += 1


def _raised(future: object) -> None:
    future.result()  # type: ignore[attr-defined]
