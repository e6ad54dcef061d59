"""The scenarios: functions of a stack and a seed that return what they found."""

from collections.abc import Callable

from tests.chaos.judge.report import Result
from tests.chaos.scenarios import kills, leases, losses, outages, poison, promises, starvation, storm, waits
from tests.chaos.stack import Stack

Scenario = Callable[[Stack, int], Result]

SHORT: dict[str, Scenario] = {
    "C1": kills.kill_at_the_unacked_write,
    "C2": kills.kill_in_the_middle,
    "C4": outages.kill_redis,
    "C7": promises.ids_that_are_not_known,
    "C8": kills.terminate_with_work,
    "C12": promises.revoke,
    "C13": poison.poison,
    "C17": promises.copies,
}
"""What `make test` runs, in one shared stack."""

LONG: dict[str, Scenario] = {
    **SHORT,
    "C5": losses.lose_the_tail,
    "C6": losses.lose_everything,
    "C9": leases.wake_up_late,
    "C10": leases.outlast_the_visibility_timeout,
    "C11": leases.retry_across_a_death,
    "C14": starvation.starve,
    "C15": waits.black_hole,
    "C16": waits.qdrant_away,
    "C18": waits.two_apis,
    "C3": storm.storm,
}
"""What `make chaos` runs, in this order."""

# In the storm a task may die with its worker more often than a poison file may kill one.
SETTINGS = {"C3": {"FLEET_MAX_DEATHS": "10"}}
