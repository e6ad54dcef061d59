"""One run: what was asked for, how far it is, and what is written of it in the end."""

import csv
import json
import time
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gevent.event import Event
from gevent.pool import Group
from resvg_py import svg_to_bytes

from loadtests.arrivals import Load
from loadtests.book import Book, without_nan
from loadtests.documents import Source
from loadtests.mix import Mix
from loadtests.plot import panels, svg
from loadtests.thresholds import Thresholds

SEED, DRAIN = "seed", "drain"
DEFAULT_SECONDS = 180
NAMES_SHOWN = 5


class Run:
    """The state that the users share.

    Args:
        options: locust's, with ours.

    Attributes:
        phase: `SEED`, then `IDLE` and `LOAD` of the book, then `DRAIN`.
        visits: all that users do just now.
        searching: set when there is something to search.
        began: the second in which the uploads begin.
        deadline: the second until which users wait for their documents.
        is_over: nothing is left to do.
        is_left: the collection was not deleted.
        last_word: the result in a line, once it is known.

    Raises:
        ValueError: a file or an option can't be used; the text says why.
        OSError: a file can't be read.
    """

    def __init__(self, options: Any) -> None:
        if min(options.rate, options.searches) <= 0:
            raise ValueError("--rate and --searches are more than 0 a second")
        self.options = options
        self.load = Load(options.shape, options.rate, float(options.run_time or DEFAULT_SECONDS))
        folder = Path(options.folder) if options.folder else None
        if folder and not folder.is_dir():
            raise ValueError(f"--folder {folder}: there is no such folder")
        self.source = Source(Mix.parse(Path(options.mix).read_text("utf-8")), folder, options.seed)
        section = options.section or options.shape
        self.thresholds = Thresholds.parse(Path(options.thresholds).read_text("utf-8"), section)
        self.book = Book()
        self.thresholds.broken(self.book.summary(errors=0).as_dict())  # all names are known
        self.collection = f"load-{uuid.uuid4().hex[:12]}"
        self.phase = SEED
        self.visits = Group()
        self.searching = Event()
        self.began = 0.0
        self.deadline = float("inf")
        self.is_over = self.is_left = False
        self.last_word = ""
        self._began = time.monotonic()

    def now(self) -> float:
        """Return the seconds since the run began."""
        return time.monotonic() - self._began

    def judge(self, errors: int) -> bool:
        """Hold the figures against the thresholds, write the report; say whether all are kept."""
        summary = self.book.summary(errors)
        broken = [] if self.is_over else ["the run was ended before its time"]
        broken += self.thresholds.broken(summary.as_dict())
        word = self.options.word
        self.last_word = f"{word} failed: {'; '.join(broken)}" if broken else summary.line(word)
        folder = Path(self.options.report)
        folder.mkdir(parents=True, exist_ok=True)
        began = self._began + self.began
        record = {
            "load": asdict(self.load),
            # Seconds of the system's monotonic clock, which is the same to all processes.
            "span": [began, began + self.load.seconds],
            "collection": self.collection,
            "is_left": self.is_left,
            "left_out": self.source.left_out,
            "figures": without_nan(summary.as_dict()),
            "broken": broken,
        }
        (folder / "summary.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
        title = f"{self.load.shape}, {self.load.rate:g} uploads/s for {self.load.seconds:g} s: "
        picture = svg(title + summary.details(), panels(self.book))
        (folder / "load.svg").write_text(picture, "utf-8")
        (folder / "load.png").write_bytes(bytes(svg_to_bytes(picture, background="white", zoom=2)))
        rows = [asdict(one) | {"fate": one.fate} for one in self.book.uploads]
        _write(folder / "uploads.csv", rows)
        _write(folder / "searches.csv", [asdict(one) for one in self.book.searches])
        self.last_word = "\n".join([*self._notes(), summary.details(), self.last_word])
        return not broken

    def _notes(self) -> list[str]:
        notes = []
        if left_out := self.source.left_out:
            shown = ", ".join(left_out[:NAMES_SHOWN]) + (", …" if len(left_out) > NAMES_SHOWN else "")
            notes.append(
                f"{len(left_out)} files of the folder were left out: {shown}; summary.json has them all"
            )
        if self.is_left:
            name = self.collection
            notes.append(f"the collection {name} is left: `embedfleet rm --collection {name}` deletes it")
        return notes


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)
