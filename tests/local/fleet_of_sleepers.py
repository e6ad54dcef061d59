"""A small fleet of real processes, run by the tests as a program: ``fleet_of_sleepers.py DATA_DIR``.

Prints one JSON line with its children's process ids when they are up, and lines of the supervisor.
"""

import json
import sys
from pathlib import Path

from embedfleet.local.child import Child
from embedfleet.local.datadir import DataDir, FleetState
from embedfleet.local.signals import StopSignals
from embedfleet.local.supervisor import Member, StopRequested, Supervisor

SLEEPER = """
import signal, sys, time
def end(*_):
    print("ended", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
while True:
    time.sleep(60)
"""


def sleeper(data: DataDir, name: str, lock: int) -> Member:
    log = data.logs / f"{name}.log"
    child = Child(name, [sys.executable, "-c", SLEEPER], log=log, keep_open=[lock])
    return Member(child, lambda: "" if "up" in child.tail() else "not up")


def main() -> None:
    data = DataDir(Path(sys.argv[1]))
    lock = data.claim()
    with StopSignals() as signals:
        fleet = Supervisor(signals, lambda line: print(line, flush=True), delays=(0.05,) * 3)
        try:
            fleet.start(sleeper(data, "store", lock))
            fleet.start(sleeper(data, "worker-1", lock), sleeper(data, "worker-2", lock))
            fleet.await_ready(20)
            data.publish(FleetState(0, "http://127.0.0.1:1", "", "", pids=fleet.pids))
            print(json.dumps(fleet.pids), flush=True)
            fleet.watch(lambda: print(json.dumps(fleet.pids), flush=True))
        except StopRequested:
            pass
        finally:
            fleet.stop()


if __name__ == "__main__":
    main()
