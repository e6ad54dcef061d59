"""The data folder: its lock, its state file."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from embedfleet.contracts.errors import ConfigurationError
from embedfleet.local.datadir import DataDir, FleetState, is_alive


def state(pid: int) -> FleetState:
    return FleetState(
        pid, "http://127.0.0.1:8000", "redis://127.0.0.1:1/0", "http://127.0.0.1:2", {"a": "b"}, {"c": 1}
    )


def dead_pid() -> int:
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    return int(done.stdout)


def test_a_free_folder_is_made_and_claimed_again_after_release(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "new" / "folder")
    for _ in range(2):
        os.close(data.claim())
    assert data.logs.is_dir()


def test_what_it_makes_is_the_users_alone(tmp_path: Path) -> None:
    data = DataDir(tmp_path / "new")
    os.close(data.claim())
    (data.path / "fleet.json.new").touch(0o644)  # left by a crash
    data.publish(state(os.getpid()))
    assert data.path.stat().st_mode & 0o777 == 0o700
    assert (data.path / "fleet.json").stat().st_mode & 0o777 == 0o600


def test_a_held_folder_names_the_holder_and_the_fix(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    lock = data.claim()
    try:
        data.publish(state(os.getpid()))
        with pytest.raises(ConfigurationError) as caught:
            DataDir(tmp_path).claim()
    finally:
        os.close(lock)
    assert f"process id {os.getpid()} (http://127.0.0.1:8000)" in caught.value.detail
    assert "--data-dir" in caught.value.detail


def test_orphans_of_a_dead_fleet_are_waited_for(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    lock = data.claim()
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(dead_pid()).encode(), 0)
    orphan = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=-1, pass_fds=[lock]
    )
    os.close(lock)
    assert orphan.stdin
    orphan.stdin.close()  # ends by itself, as the kernel ends the children of a killed fleet
    try:
        os.close(data.claim())
    finally:
        orphan.kill()
        orphan.wait(10)


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="give another --data-dir"):
        DataDir(tmp_path / "file").claim()


def test_the_state_is_found_while_its_fleet_lives(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    assert data.running() is None
    lock = data.claim()
    assert data.running() is None
    data.publish(state(os.getpid()))
    assert data.running() == state(os.getpid())
    os.close(lock)
    assert data.running() is None  # left by a crash, though the process id exists
    lock = data.claim()
    data.withdraw()
    data.withdraw()
    assert data.running() is None
    os.close(lock)


def test_the_blobs_are_those_of_the_fleet_that_runs_here(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    lock = data.claim()
    assert data.blobs == str(data.own_blobs) == str(tmp_path / "blobs")
    data.publish(replace(state(os.getpid()), blobs="s3://bucket/prefix"))
    assert data.blobs == "s3://bucket/prefix"
    data.publish(state(os.getpid()))  # of a version that had no such field
    assert data.blobs == str(data.own_blobs)
    os.close(lock)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', '{"pid": 1, "unknown": 2}'])
def test_a_broken_state_file_is_no_fleet(tmp_path: Path, content: str) -> None:
    lock = DataDir(tmp_path).claim()
    (tmp_path / "fleet.json").write_text(content)
    assert DataDir(tmp_path).running() is None
    os.close(lock)


def test_the_impossible_process_id_is_not_alive() -> None:
    assert not is_alive(0)
