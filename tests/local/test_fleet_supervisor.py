"""The supervisor with real children: order, restarts, giving up, signals, death of the supervisor."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from processes import SmallFleet, eventually, is_gone

from embedfleet.contracts.errors import FleetError
from embedfleet.local.child import Child
from embedfleet.local.signals import StopSignals
from embedfleet.local.supervisor import Member, StopRequested, Supervisor

SLEEP = "import time; time.sleep(600)"
ENDS_LOUDLY = """
import os, signal, sys, time
def end(*_):
    with open(sys.argv[1], "a") as order:
        order.write(sys.argv[2] + " ")
    os._exit(0)
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
time.sleep(600)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""


def member(folder: Path, name: str, code: str, *arguments: str, stop_seconds: float = 10) -> Member:
    command = [sys.executable, "-c", code, *arguments]
    child = Child(name, command, log=folder / f"{name}.log", stop_seconds=stop_seconds)
    return Member(child, lambda: "" if "up" in child.tail() else "not up")


def test_groups_stop_in_reverse_order(tmp_path: Path) -> None:
    order, said = tmp_path / "order", list[str]()
    with StopSignals() as signals:
        fleet = Supervisor(signals, said.append)
        for name in ("redis", "api", "worker"):
            fleet.start(member(tmp_path, name, ENDS_LOUDLY, str(order), name))
        fleet.await_ready(20)
        fleet.stop()
    assert order.read_text().split() == ["worker", "api", "redis"]
    assert said == ["stopping the fleet (Ctrl-C again kills it at once)", "stopped"]


def test_what_could_not_be_started_is_not_waited_for(tmp_path: Path) -> None:
    said = list[str]()
    with StopSignals() as signals:
        fleet = Supervisor(signals, said.append)
        with pytest.raises(FileNotFoundError):
            fleet.start(member(tmp_path / "no folder", "api", SLEEP, stop_seconds=600))
        fleet.stop()
    assert said[1:] == ["stopped"]


def test_a_member_that_never_gets_ready_is_named(tmp_path: Path) -> None:
    with StopSignals() as signals:
        fleet = Supervisor(signals, lambda line: None)
        fleet.start(member(tmp_path, "slow", SLEEP))
        with pytest.raises(FleetError, match=r"slow was not ready in 0\.3 s: not up"):
            fleet.await_ready(0.3)
        fleet.stop()


def test_the_fleet_gives_up_after_the_last_delay_and_shows_the_log(tmp_path: Path) -> None:
    lines: list[str] = []
    with StopSignals() as signals:
        fleet = Supervisor(signals, lines.append, delays=(0.01, 0.02))
        fleet.start(member(tmp_path, "bad", "import sys; print('because'); sys.exit(7)"))
        with pytest.raises(FleetError, match="ended with exit code 7") as caught:
            fleet.watch()
        fleet.stop()
    assert caught.value.code == "member_failed"
    assert caught.value.detail.endswith("because\nbecause\nbecause")
    assert [line.split(" (log")[0] for line in lines[:2]] == [
        "bad ended with exit code 7; restarting in 0.01 s",
        "bad ended with exit code 7; restarting in 0.02 s",
    ]


def test_what_refuses_to_start_is_not_started_again(tmp_path: Path) -> None:
    with StopSignals() as signals:
        fleet = Supervisor(signals, lambda line: None)
        fleet.start(member(tmp_path, "wrong", "import sys; print('set X'); sys.exit(2)"))
        with pytest.raises(FleetError, match=r"wrong refused to start.*\nset X$"):
            fleet.watch()
        fleet.stop()


def test_a_refusal_does_not_show_errors_of_earlier_runs(tmp_path: Path) -> None:
    (tmp_path / "wrong.log").write_text("redis: connection refused\n" * 20)
    with StopSignals() as signals:
        fleet = Supervisor(signals, lambda line: None)
        fleet.start(member(tmp_path, "wrong", "import sys; print('set X'); sys.exit(2)"))
        with pytest.raises(FleetError) as caught:
            fleet.watch()
        fleet.stop()
    assert caught.value.detail == f"wrong refused to start; the end of {tmp_path / 'wrong.log'}:\nset X"


def test_a_crash_while_others_get_ready_is_noticed(tmp_path: Path) -> None:
    with StopSignals() as signals:
        fleet = Supervisor(signals, lambda line: None, delays=())
        fleet.start(member(tmp_path, "slow", SLEEP), member(tmp_path, "bad", "raise SystemExit(9)"))
        with pytest.raises(FleetError, match="bad ended with exit code 9"):
            fleet.await_ready(30)
        fleet.stop()


def test_a_stop_signal_ends_the_wait_for_readiness(tmp_path: Path) -> None:
    with StopSignals() as signals:
        fleet = Supervisor(signals, lambda line: None)
        fleet.start(member(tmp_path, "slow", SLEEP))
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StopRequested):
            fleet.await_ready(60)
        fleet.stop()


def test_a_second_signal_kills_at_once(tmp_path: Path) -> None:
    lines: list[str] = []
    with StopSignals() as signals:
        fleet = Supervisor(signals, lines.append)
        stubborn = member(tmp_path, "stubborn", STUBBORN, stop_seconds=600)
        fleet.start(stubborn)
        fleet.await_ready(20)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        began = time.monotonic()
        fleet.stop()
    assert stubborn.child.poll() == -signal.SIGKILL
    assert time.monotonic() - began < 60
    assert "stubborn did not end in time: killed" in lines


def test_run_once_returns_the_exit_code_and_ends_with_a_stop(tmp_path: Path) -> None:
    with StopSignals() as signals:
        fleet = Supervisor(signals, lambda line: None)
        child = Child("step", [sys.executable, "-c", "raise SystemExit(4)"], log=tmp_path / "step.log")
        assert fleet.run_once(child) == 4
        long = Child("step", [sys.executable, "-c", SLEEP], log=tmp_path / "step.log")
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StopRequested):
            fleet.run_once(long)
        assert long.poll() is not None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_all_and_the_exit_code_is_0(small_fleet: SmallFleet, number: signal.Signals) -> None:
    pids = small_fleet.pids()
    small_fleet.process.send_signal(number)
    assert small_fleet.process.wait(20) == 0
    assert all(is_gone(pid) for pid in pids.values())


def test_a_crashed_member_comes_back(small_fleet: SmallFleet) -> None:
    before = small_fleet.pids()
    os.kill(before["worker-1"], signal.SIGKILL)
    assert "worker-1 was killed by SIGKILL; restarting in 0.05 s" in small_fleet.line()
    after = small_fleet.pids()
    assert after["worker-1"] != before["worker-1"]
    assert after["store"] == before["store"]


def test_no_child_outlives_a_killed_supervisor(small_fleet: SmallFleet, tmp_path: Path) -> None:
    pids = small_fleet.pids()
    small_fleet.process.kill()
    small_fleet.process.wait(10)
    eventually(lambda: all(is_gone(pid) for pid in pids.values()))
    assert "ended" not in (tmp_path / "logs" / "store.log").read_text()
    again = SmallFleet(tmp_path)
    try:
        assert set(again.pids()) == set(pids)
    finally:
        again.process.terminate()
        again.rest()
        assert again.process.wait(20) == 0
        assert again.process.stdout
        again.process.stdout.close()


def test_a_second_fleet_says_who_holds_the_folder(small_fleet: SmallFleet, tmp_path: Path) -> None:
    small_fleet.pids()
    second = SmallFleet(tmp_path)
    assert f"is in use by the fleet with process id {small_fleet.process.pid}" in second.rest()
    assert second.process.wait(10) == 1
    assert second.process.stdout
    second.process.stdout.close()
    assert json.loads((tmp_path / "fleet.json").read_text())["url"] == "http://127.0.0.1:1"
