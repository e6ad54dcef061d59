"""What `make telemetry-bench` rests on: CPU seconds of a tree, and a process without telemetry."""

import os
import subprocess
import sys
from pathlib import Path

import benchmarks.telemetry
from benchmarks.telemetry.cpu import seconds

TICKS = os.sysconf("SC_CLK_TCK")
SILENT = Path(benchmarks.telemetry.__file__).parent / "silent"
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
import logging
from prometheus_client import Counter, Gauge, Histogram, generate_latest
logging.error("nobody hears this")
Counter("jobs", "", ["kind"]).labels("x").inc()
Histogram("waits", "").observe(1)
Gauge("depth", "").set(3)
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


def test_in_the_silent_fleet_nothing_is_counted_or_logged() -> None:
    env = os.environ | {"PYTHONPATH": str(SILENT)}
    done = subprocess.run([sys.executable, "-c", USE], env=env, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "waits_count 0.0" in done.stdout
    assert "depth 0.0" in done.stdout
    assert "jobs_total{" not in done.stdout
