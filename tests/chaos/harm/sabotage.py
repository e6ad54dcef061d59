"""Runs a process of the fleet with one safety taken out.

`python -m tests.chaos.harm.sabotage janitor embedfleet.api` is an api whose janitor does nothing.

The product has no switch for this. The patch is made here, before the process' real main runs, and it
refuses to run when the text it takes out isn't there any more: a sabotage that does nothing would make
the suite look blind.
"""

import runpy
import sys
from collections.abc import Callable

import redis

from embedfleet.janitor import Janitor

LEDGER_WORD = "TASK_EDGES"


def stop_the_janitor() -> None:
    """Nobody looks for expired leases, lost wake-ups, due retries and what has ended."""
    Janitor.start = lambda self: None  # type: ignore[method-assign]
    Janitor.stop = lambda self: None  # type: ignore[method-assign]


def drop_the_fence() -> None:
    """Every run of a task that is running may write, also one whose claim was taken over."""
    _take_out("row.state == 'STARTED' and is_latest(claim, row) then", "row.state == 'STARTED' then")


def keep_the_lease() -> None:
    """A task that is handed back is published, and stays in the hands of the one who gave it back."""
    fields = "{stage = 'queued', parks = tonumber(row.parks or 0) + a.parks}"
    _take_out(f"move_task(a.task_id, row, 'PENDING', {fields})", "")


SABOTAGES: dict[str, Callable[[], None]] = {
    "janitor": stop_the_janitor,
    "fence": drop_the_fence,
    "release": keep_the_lease,
}
"""What may be taken out, by the name that `--break` takes."""


def _take_out(text: str, instead: str) -> None:
    register = redis.Redis.register_script

    def register_without(self: redis.Redis, script: str) -> object:
        if LEDGER_WORD not in script:
            return register(self, script)  # a lock of the client's own
        if script.count(text) != 1:
            raise SystemExit(f"the ledger's script has {script.count(text)} times: {text!r}")
        return register(self, script.replace(text, instead))

    redis.Redis.register_script = register_without


if __name__ == "__main__":
    _, what, module, *arguments = sys.argv
    SABOTAGES[what]()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
