"""What `make telemetry-bench` rests on: CPU seconds of a tree, a switch in a process, the estimate."""

import math
import os
import subprocess
import sys
from pathlib import Path

import benchmarks.telemetry
import pytest
from benchmarks.telemetry.__main__ import MOST, estimate, verdict
from benchmarks.telemetry.cpu import seconds

TICKS = os.sysconf("SC_CLK_TCK")
SWITCHED = Path(benchmarks.telemetry.__file__).parent / "switched"
BURN = "import time\nwhile time.process_time() < 0.2: pass\n"
# A child that ends and is waited for, then one that lives.
PARENT = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {BURN!r}], check=True)
living = subprocess.Popen([sys.executable, "-c", {BURN!r} + "print('burnt', flush=True)\\ninput()"], stdin=-1)
input()
living.communicate(b"\\n")
"""
USE = """
import logging, os
from prometheus_client import Counter, Gauge, Histogram, generate_latest

jobs = Counter("jobs", "", ["kind"])
waits, depth = Histogram("waits", ""), Gauge("depth", "")
kept = {}

def use(amount):
    logging.error("amount %d", amount)
    kept.setdefault("job", jobs.labels("kept")).inc(amount)
    waits.observe(amount)
    depth.set(amount)

for state, amount in ((1, 1), (0, 10), (1, 100), (0, 1000)):
    with open(os.environ["TELEMETRY_SWITCH"], "r+b") as switch:
        switch.write(bytes([state]))
    use(amount)
print(generate_latest().decode())
"""


def test_the_tree_has_living_and_ended_children() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=-1, stdout=-1, text=True) as parent:
        assert parent.stdin
        assert parent.stdout
        assert parent.stdout.readline() == "burnt\n"
        used = seconds(parent.pid)
        parent.communicate("\n")
    assert used >= 2 * (0.2 - 2 / TICKS)


def test_a_process_that_does_not_exist_used_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    assert seconds(ended.pid) == 0


def test_nothing_is_counted_or_logged_while_the_switch_is_on(tmp_path: Path) -> None:
    switch = tmp_path / "switch"
    switch.write_bytes(b"\0")
    env = os.environ | {"PYTHONPATH": str(SWITCHED), "TELEMETRY_SWITCH": str(switch)}
    done = subprocess.run([sys.executable, "-c", USE], env=env, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == ["ERROR:root:amount 10", "ERROR:root:amount 1000"]
    shown = set(done.stdout.splitlines())
    assert {'jobs_total{kind="kept"} 1010.0', "waits_count 2.0", "waits_sum 1010.0", "depth 1000.0"} <= shown


def test_the_order_of_a_round_takes_from_one_what_it_adds_to_the_next() -> None:
    cost, error = estimate([1.02 * 1.1, 1.02 / 1.1] * 8)
    assert cost == pytest.approx(1.02)
    assert error == pytest.approx(1.02 * 2 * math.log(1.1) / math.sqrt(15))


def test_rounds_that_agree_leave_no_error() -> None:
    assert estimate([1.01] * 4) == pytest.approx((1.01, 0))


@pytest.mark.parametrize(
    ("cost", "found"),
    [(MOST - 0.02, "ok"), (MOST - 0.005, "unclear"), (MOST + 0.005, "unclear"), (MOST + 0.02, "over")],
)
def test_what_the_rounds_can_not_tell_is_not_ok(cost: float, found: str) -> None:
    assert verdict(cost, 0.01).startswith(found)
