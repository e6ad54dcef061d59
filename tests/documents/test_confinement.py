"""What the kernel refuses to a sealed process."""

import os
import subprocess
import sys

import pytest

SEAL = (
    "import os, socket, sys, signal, ctypes, threading\n"
    "from embedfleet.documents.sandbox import confinement\n"
)

FORBIDDEN = {
    "network": "socket.socket()",
    "socket pair": "socket.socketpair()",
    "new file": "open(sys.argv[1] + '/new', 'w')",
    "appending": "open(sys.argv[1] + '/there', 'a')",
    "deleting": "os.unlink(sys.argv[1] + '/there')",
    "renaming": "os.rename(sys.argv[1] + '/there', sys.argv[1] + '/here')",
    "new process": "os.fork()",
    "new program": "os.execv('/bin/true', ['true'])",
    "signals to others": "os.kill(os.getppid(), signal.SIGTERM)",
}


def run(tmp_path, code):
    (tmp_path / "there").write_text("kept")
    return subprocess.run(
        [sys.executable, "-c", SEAL + code, str(tmp_path)], capture_output=True, text=True, timeout=30
    )


@pytest.fixture(scope="module")
def _sealable():
    done = subprocess.run(
        [sys.executable, "-c", SEAL + "print(confinement.seal())"], capture_output=True, text=True
    )
    if done.stdout.strip() != "True":
        pytest.skip("this kernel or processor takes no system call filter")


@pytest.mark.usefixtures("_sealable")
@pytest.mark.parametrize("act", FORBIDDEN.values(), ids=FORBIDDEN)
def test_a_sealed_process_may_not(tmp_path, act):
    done = run(
        tmp_path, f"confinement.seal()\ntry:\n    {act}\nexcept PermissionError:\n    print('refused')"
    )
    assert done.stdout.strip() == "refused", done.stderr
    assert os.listdir(tmp_path) == ["there"]
    assert (tmp_path / "there").read_text() == "kept"


@pytest.mark.usefixtures("_sealable")
def test_a_sealed_process_still_reads_and_starts_threads(tmp_path):
    code = (
        "confinement.seal()\n"
        "threads = [threading.Thread(target=lambda: print(open(sys.argv[1] + '/there').read()))]\n"
        "[t.start() for t in threads]; [t.join() for t in threads]; confinement.arm_cpu(5)"
    )
    assert run(tmp_path, code).stdout.strip() == "kept"


def test_limits_hold(tmp_path):
    code = (
        "confinement.limit_resources(300_000_000)\n"
        "try:\n    bytearray(400_000_000)\nexcept MemoryError:\n    print('memory')\n"
        "try:\n    open(sys.argv[1] + '/there', 'w').write('x')\nexcept OSError:\n    print('size')\n"
    )
    assert run(tmp_path, code).stdout.split()[:1] == ["memory"]


def test_cpu_time_is_armed_from_now(tmp_path):
    done = run(tmp_path, "confinement.arm_cpu(0)\nwhile True: pass")
    assert done.returncode == -24  # SIGXCPU
