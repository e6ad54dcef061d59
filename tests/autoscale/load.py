"""300 documents in two bursts, the second when the fleet has just gone quiet and with a tail of long ones."""

import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.chaos.client import Client
from tests.chaos.corpus import WORDS, File, expected

DOCUMENTS = 300
BURSTS = 2
SENDERS = 4
SEED = 5
CHARACTERS = (1_000, 6_000)
TAIL = 16
TAIL_CHARACTERS = (95_000, 105_000)
"""Of the last documents, an embedding task each: so few that one pod is asked for, and so long that they
outlast the window after which a pod is taken."""
VIETNAMESE_SHARE = 0.3
LOOK_SECONDS = 0.2
VIETNAMESE = (
    "chuyến",
    "phà",
    "bến",
    "cảng",
    "thuỷ",
    "triều",
    "đường",
    "những",
    "giá",
    "vé",
    "mùa",
    "đông",
    "thuyền",
    "trưởng",
    "khởi",
    "hành",
    "Nguyễn",
    "được",
)


@dataclass(frozen=True, slots=True)
class Burst:
    """When a burst began, was accepted, and had its last document READY; monotonic."""

    began: float
    accepted: float
    drained: float


def documents(count: int = DOCUMENTS, seed: int = SEED, tail: int = TAIL) -> list[File]:
    """Return the documents, always the same: about a third of them Vietnamese, the last `tail` long."""
    dice = random.Random(seed)
    found = []
    for number in range(count):
        words = VIETNAMESE if dice.random() < VIETNAMESE_SHARE else WORDS
        sizes = CHARACTERS if number < count - tail else TAIL_CHARACTERS
        data = _text(dice, words, dice.randint(*sizes)).encode()
        found.append(File(f"{number:03d}.txt", data, expected(data, ".txt")))
    return found


class Story:
    """Uploads the bursts, one after the other, and waits for each; runs on a thread beside the loop.

    Args:
        client: of the arm's collection.
        files: all documents.
        pause: seconds of quiet before each burst but the first.
    """

    def __init__(self, client: Client, files: Sequence[File], pause: float) -> None:
        self._client, self._files, self._pause = client, files, pause
        self._over = threading.Event()
        self.bursts: list[Burst] = []

    def __call__(self) -> None:
        """Tell it; returns early when it is broken off."""
        share = -(-len(self._files) // BURSTS)
        for start in range(0, len(self._files), share):
            if start and self._over.wait(self._pause):
                return
            self._burst(self._files[start : start + share])

    def break_off(self) -> None:
        """Wait for nothing any more."""
        self._over.set()

    def _burst(self, files: Sequence[File]) -> None:
        began = time.monotonic()
        with ThreadPoolExecutor(SENDERS) as senders:
            list(senders.map(self._client.upload, files))
        accepted = time.monotonic()
        while self._client.open_documents():
            if self._over.wait(LOOK_SECONDS):
                return
        self.bursts.append(Burst(began, accepted, time.monotonic()))


def _text(dice: random.Random, words: Sequence[str], characters: int) -> str:
    sentences: list[str] = []
    size = 0
    while size < characters:
        sentence = " ".join(dice.choices(words, k=12)).capitalize()
        sentences.append(f"{sentence} {dice.random():.6f}.")
        size += len(sentences[-1])
    return "\n".join(sentences)
