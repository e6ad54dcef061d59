"""Users of a fleet, for locust: uploads and searches that come at their rate, whatever the answers are.

    python -m locust -f loadtests/locustfile.py --headless --host https://fleet.example --run-time 5m

One run: a few documents are uploaded and READY; searches alone, for their idle figure; uploads by the shape,
the searches going on; then everybody waits for what is under way, and the book is balanced.
"""

import json
import logging
import os
import sys
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, LoadTestShape, events, task
from locust.exception import StopUser
from locust.runners import LocalRunner

from loadtests.arrivals import SHAPES, Load
from loadtests.book import ENDED, IDLE, LOAD, READY, Search, Upload
from loadtests.documents import ROOT
from loadtests.mix import Then, Wish
from loadtests.run import DRAIN, Run
from loadtests.session import Refusal, Session

HERE = Path(__file__).parent
SEEDS = 10
FIRST_POLL_SECONDS, POLL_SHARE = 0.25, 0.1
REVOKE_SECONDS = 2.0
# Of 512 characters that a key may have, the number has its share.
MAX_PATH = 480
KEY = os.environ.get("FLEET_API_KEY", "")


class FleetUser(FastHttpUser):
    """What both kinds of users share: the run, the calls, and greenlets that may fail."""

    abstract = True
    fixed_count = 1
    insecure = False
    # A request never waits for another's connection: the arrivals are open.
    concurrency = 1000
    # The key would go along to wherever a redirect points.
    max_redirects = 0
    default_headers = {"X-API-Key": KEY} if KEY else {}

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.shared: Run = environment.load_run
        self.calls = Session(self.client, self.shared.collection)
        self.visits = self.shared.visits
        # A GET whose connection breaks is tried again, unseen by the statistics, once more than this says.
        # Once is for a connection that was closed while nobody used it.
        self.client.client.clientpool.get_client(self.host)._connection_pool.size = 0

    def visit(self, action: Callable[..., None], *arguments: object) -> None:
        """Let someone act who nobody waits for; a failure of ours is an exception in locust's report."""
        self.visits.spawn(self.guarded, action, *arguments)

    def guarded(self, action: Callable[..., None], *arguments: object) -> None:
        """Do it; a failure of ours is an exception in locust's report."""
        try:
            action(*arguments)
        except Exception as error:
            logging.error("%s: %s", type(error).__name__, error)
            self.environment.events.user_error.fire(
                user_instance=self, exception=error, tb=error.__traceback__
            )

    def begin(self, due: float) -> None:
        """Note by how much a request is late that is sent now."""
        self.shared.book.late_s = max(self.shared.book.late_s, self.shared.now() - due)

    def wait_until(self, second: float) -> None:
        """Sleep until a second of the run, if it is to come."""
        gevent.sleep(max(second - self.shared.now(), 0))


class Uploader(FleetUser):
    """Everybody who uploads; also leads the run through its phases."""

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.wishes = self.shared.source.mix.wishes(self.shared.options.seed)

    @task
    def everything(self) -> None:
        """The whole run, once."""
        self.guarded(self.lead)
        self.shared.is_over = True
        raise StopUser

    def lead(self) -> None:
        """Lead the run through its phases; the collection is deleted however they end."""
        run = self.shared
        try:
            self.seed()
            self.load()
            self.balance()
        finally:
            run.phase = DRAIN
            self.visits.kill()
            run.is_left = True
            run.is_left = run.options.keep or not self.calls.delete()

    def seed(self) -> None:
        """Upload what the first searches find."""
        run = self.shared
        for wish in islice(self.wishes, SEEDS):
            quiet = Wish(wish.number, wish.kind, wish.language, Then.WAIT)
            self.visit(self.upload, quiet, run.now(), 1, True)
        self.visits.join(timeout=run.options.seed_seconds)
        if not all(one.fate == READY for one in run.book.uploads) or len(run.book.uploads) < SEEDS:
            raise RuntimeError(
                f"the first {SEEDS} documents are not READY within {run.options.seed_seconds:g} s: see what"
                " they wait for (GET /api/v1/queues), or give workers longer to come (--seed-seconds)"
            )

    def load(self) -> None:
        """Idle, load, drain."""
        run = self.shared
        run.phase = IDLE
        run.searching.set()
        gevent.sleep(run.options.idle)
        run.phase, run.began = LOAD, run.now()
        run.deadline = run.began + run.load.seconds + run.options.drain
        for at, wish in zip(run.load.arrivals(), self.wishes, strict=False):
            run.book.last_arrival = run.began + at
            self.wait_until(run.book.last_arrival)
            self.visit(self.upload, wish, run.book.last_arrival)
        self.wait_until(run.began + run.load.seconds)
        run.phase = DRAIN
        self.visits.join()

    def upload(self, wish: Wish, due: float, version: int = 1, is_seed: bool = False) -> None:
        """Upload a file, poll its task, and do then what the user wants."""
        run, file = self.shared, self.shared.source.file(wish, version)
        key = f"{wish.number}/{file.path[-MAX_PATH:]}"
        if not is_seed:
            self.begin(due)
        while isinstance(answer := self.calls.upload(file, key), Refusal):
            run.book.refused += 1
            if run.now() + answer.seconds > run.deadline:
                run.book.given_up += 1
                return
            gevent.sleep(answer.seconds)
        if answer is None:
            return
        kind = f"{wish.kind.type} {wish.kind.size} {wish.language}".rstrip()
        ids = answer["document_id"], answer["task_id"]
        upload = Upload(kind, file.path, len(file.data), version, is_seed, due, *ids)
        run.book.uploads.append(upload)
        if wish.then is Then.REVOKE:
            gevent.sleep(wish.number % 8 / 8 * REVOKE_SECONDS)
            upload.is_stopped = self.calls.revoke(upload.task_id)
        self.follow(upload)
        if upload.fate == READY and not is_seed:
            self.found(upload)
            if wish.then is Then.CHANGE and version == 1 and run.source.has_versions:
                self.upload(wish, run.now(), 2)

    def follow(self, upload: Upload) -> None:
        """Poll a task until its document has ended, first often, then at a tenth of the time it took."""
        run = self.shared
        while run.now() < run.deadline:
            answer = self.calls.task(upload.task_id)
            if answer and answer["document"]:
                note(upload, answer["document"], run.now())
            if upload.ended is not None:
                return
            gevent.sleep(max(FIRST_POLL_SECONDS, (run.now() - upload.due) * POLL_SHARE))

    def found(self, upload: Upload) -> None:
        """Count an upload that is READY, and see that a search finds it."""
        self.environment.events.request.fire(
            request_type="FLEET",
            name="upload to searchable",
            response_time=upload.seconds * 1000,
            response_length=upload.size,
            exception=None,
            context={},
        )
        hits = self.calls.search("revision", "search, own document", [upload.document_id])
        if hits == []:
            raise RuntimeError("a document is READY, and a search for it finds nothing")

    def balance(self) -> None:
        """Ask once more what became of each document: what was READY may not be gone."""
        for upload in self.shared.book.newest():
            document = self.calls.document(upload.document_id)
            if document is None:
                upload.state = "MISSING"
            else:
                note(upload, document, self.shared.now())


class Searcher(FleetUser):
    """Everybody who searches."""

    @task
    def everything(self) -> None:
        """Search at the rate, from the idle phase to the last upload."""
        run = self.shared
        run.searching.wait()
        queries = cycle(json.loads((ROOT / "examples" / "searches.json").read_text("utf-8")))
        began = run.now()
        for at in Load("steady", run.options.searches, float("inf")).arrivals():
            self.wait_until(began + at)
            if run.phase not in (IDLE, LOAD):
                raise StopUser
            self.visit(self.search, next(queries)["query"], began + at, run.phase)

    def search(self, query: str, due: float, phase: str) -> None:
        """Search, and note how long it took."""
        self.begin(due)
        if self.calls.search(query, f"search, {phase}") is not None:
            milliseconds = (self.shared.now() - due) * 1000
            self.shared.book.searches.append(Search(due, milliseconds, phase))


class WholeRun(LoadTestShape):
    """Both users until the run is over. How many *arrive* is told by `--shape` and `--rate`, not by users."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """Return the number of locust users; None ends the test."""
        run: Run = self.runner.environment.load_run
        return None if run.is_over else (2, 2)


def note(upload: Upload, document: dict[str, Any], now: float) -> None:
    """Take over what the API says of a document."""
    upload.state = document["state"]
    upload.chunks = document["progress"]["total"] or 0
    upload.code = (document["error"] or {}).get("code", "")
    if upload.state in ENDED and upload.ended is None:
        upload.ended = now


def add_options(parser: Any) -> None:
    """Add ours to locust's; each may be given as a variable, too."""
    for name, kind, default, text in (
        ("rate", float, 1.0, "uploads a second"),
        ("searches", float, 5.0, "searches a second"),
        ("idle", float, 20.0, "seconds of searches alone, before the uploads"),
        ("seed-seconds", float, 900.0, "seconds to wait for the first documents, and for workers to come"),
        ("drain", float, 300.0, "seconds to wait in the end for what is under way"),
        ("seed", int, 1, "of all that is drawn: the same seed, the same uploads"),
        ("folder", str, "", "take PDF, DOCX, MD and TXT files from here instead of generating them"),
        ("mix", str, str(HERE / "mix.toml"), "file: what is uploaded, revoked and changed"),
        ("thresholds", str, str(HERE / "thresholds.toml"), "file: what decides the exit code"),
        ("section", str, "", "of the thresholds; the shape's by default"),
        ("report", str, "load-report", "folder for summary.json, load.svg, uploads.csv and searches.csv"),
        ("word", str, "load", "first word of the last line"),
    ):
        variable = f"LOAD_{name.upper().replace('-', '_')}"
        parser.add_argument(f"--{name}", type=kind, default=default, env_var=variable, help=text)
    parser.add_argument(
        "--shape", choices=sorted(SHAPES), default="steady", env_var="LOAD_SHAPE", help="how uploads arrive"
    )
    parser.add_argument("--keep", action="store_true", help="leave the collection when all is done")


def prepare(environment: Any, runner: Any, **_: object) -> None:
    """See that the options can be used, before anything starts."""
    if not isinstance(runner, LocalRunner):
        sys.exit("The run keeps one book, in one process: leave --master, --worker and --processes out.")
    start(environment)
    environment.events.quit.add_listener(lambda **_: print(environment.load_run.last_word, flush=True))


def start(environment: Any, **_: object) -> None:
    """Begin a run."""
    try:
        environment.load_run = Run(environment.parsed_options)
    except (ValueError, KeyError, OSError) as error:
        sys.exit(f"The options can't be used: {error}")


def end(environment: Any, **_: object) -> None:
    """Judge a run: the exit code is of the thresholds, not of locust's own errors alone."""
    exceptions = sum(one["count"] for one in environment.runner.exceptions.values())
    is_good = environment.load_run.judge(environment.stats.total.num_failures + exceptions)
    environment.process_exit_code = 0 if is_good else 1


events.init_command_line_parser.add_listener(add_options)
events.init.add_listener(prepare)
events.test_start.add_listener(start)
events.test_stop.add_listener(end)
