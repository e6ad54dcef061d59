"""A child process: log, session, priority, stop, kill of its whole group."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from processes import eventually, is_gone

from embedfleet.local import child as child_module
from embedfleet.local import leash
from embedfleet.local.child import Child, how_it_ended

SLEEP = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SLEEP
PARENT = (
    "import subprocess, sys, time; "
    "grandchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); "
    "print('grandchild', grandchild.pid, flush=True); "
)


@contextmanager
def running(code: str, log: Path, **options: object) -> Iterator[Child]:
    child = Child("it", [sys.executable, "-c", code], log=log, **options)  # type: ignore[arg-type]
    child.start()
    try:
        yield child
    finally:
        child.kill()


def says(child: Child, word: str) -> None:
    eventually(lambda: word in child.tail())


def grandchild_of(child: Child) -> int:
    eventually(lambda: child.tail().split()[1:])
    return int(child.tail().split()[1])


def test_output_and_exit_code_are_kept(tmp_path: Path) -> None:
    with running(
        "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)", tmp_path / "log"
    ) as child:
        assert child.wait(20) == 3
        assert child.poll() == 3
        assert set(child.tail().split()) == {"out", "err"}


def test_the_log_is_appended_and_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    with running("print('first')", log) as child:
        child.wait(20)
        child.start()
        child.wait(20)
        assert child.tail().split() == ["first", "first"]
        monkeypatch.setattr(child_module, "LOG_ROTATE_BYTES", 3)
        child.start()
        child.wait(20)
    assert log.read_text() == "first\n"
    assert (tmp_path / "log.1").read_text() == "first\nfirst\n"


def test_the_end_of_the_log_is_of_this_fleet_alone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("an error of yesterday\n")
    with running("print('now')", log) as child:
        child.wait(20)
        assert child.tail() == "now"
        child.start()
        child.wait(20)
        assert child.tail().split() == ["now", "now"], "a restart hides nothing"
    assert Child("it", ["true"], log=log).tail() == "", "it has not begun"


def test_a_log_that_is_rotated_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log"
    log.write_text("an error of yesterday\n" * 3)
    with running("print('now')", log) as child:
        child.wait(20)
        monkeypatch.setattr(child_module, "LOG_ROTATE_BYTES", 3)
        child.start()
        child.wait(20)
        assert child.tail() == "now"
    with running("print('then')", log) as later:
        later.wait(20)
        assert later.tail() == "then"


def test_it_has_a_session_and_a_niceness_of_its_own(tmp_path: Path) -> None:
    with running(SLEEP, tmp_path / "log", nice=3) as child:
        says(child, "up")
        assert os.getsid(child.pid) == child.pid != os.getsid(0)
        assert os.getpriority(os.PRIO_PROCESS, child.pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 3)


def test_stop_is_a_term_first(tmp_path: Path) -> None:
    with running(SLEEP, tmp_path / "log") as child:
        says(child, "up")
        child.stop()
        assert how_it_ended(child.poll() or 0) == "was killed by SIGTERM"


def test_what_ignores_term_is_killed_at_the_deadline(tmp_path: Path) -> None:
    with running(STUBBORN, tmp_path / "log", stop_seconds=0.2) as child:
        says(child, "up")
        child.stop()
        assert how_it_ended(child.poll() or 0) == "was killed by SIGKILL"


def test_kill_takes_the_whole_group(tmp_path: Path) -> None:
    with running(PARENT + "time.sleep(600)", tmp_path / "log") as child:
        grandchild = grandchild_of(child)
        child.kill()
        eventually(lambda: is_gone(grandchild))


def test_what_a_crashed_child_leaves_is_killed(tmp_path: Path) -> None:
    with running(PARENT + "sys.exit(1)", tmp_path / "log") as child:
        assert child.wait(20) == 1
        grandchild = grandchild_of(child)
        eventually(lambda: is_gone(grandchild))


def test_a_missing_program_is_said_in_the_log(tmp_path: Path) -> None:
    child = Child("it", ["/nowhere/program"], log=tmp_path / "log")
    child.start()
    assert child.wait(20) == 127
    assert child.tail() == "/nowhere/program: No such file or directory"


def test_it_inherits_only_what_it_is_given(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    other = os.dup(writer)
    try:
        code = f"import os; os.write({writer}, b'here'); os.fstat({other})"
        with running(code, tmp_path / "log", keep_open=[writer]) as child:
            assert child.wait(20) == 1
            assert "Bad file descriptor" in child.tail()
        assert os.read(reader, 10) == b"here"
    finally:
        for descriptor in (reader, writer, other):
            os.close(descriptor)


def test_only_the_main_thread_starts_children(tmp_path: Path) -> None:
    caught: list[str] = []

    def start() -> None:
        try:
            Child("it", ["true"], log=tmp_path / "log").start()
        except RuntimeError as error:
            caught.append(str(error))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert caught == ["a child must be started by the main thread: it dies with its starter"]


def test_a_running_child_is_not_started_twice(tmp_path: Path) -> None:
    with running(SLEEP, tmp_path / "log") as child, pytest.raises(RuntimeError, match="is running"):
        child.start()


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "ended with exit code 0"), (-9, "was killed by SIGKILL"), (-250, "was killed by signal 250")],
)
def test_exit_codes_in_words(code: int, words: str) -> None:
    assert how_it_ended(code) == words


def test_a_launcher_whose_parent_is_gone_starts_nothing(tmp_path: Path) -> None:
    made = tmp_path / "made"
    launcher = [sys.executable, "-I", "-S", leash.__file__, "1", "0", "touch", str(made)]
    assert subprocess.run(launcher, check=False).returncode == 1
    assert not made.exists()
