"""What the kernel refuses to a sealed process."""

import os
import subprocess
import sys

import pytest

SEAL = (
    "import errno, os, platform, socket, sys, signal, ctypes, threading, fcntl\n"
    "from embedfleet.documents.sandbox import confinement, landlock\n"
    "libc = ctypes.CDLL(None, use_errno=True)\n"
    "def call(x86_64, aarch64, *arguments):\n"
    "    number = x86_64 if platform.machine() == 'x86_64' else aarch64\n"
    "    if libc.syscall(number, *arguments) < 0 and ctypes.get_errno() == errno.EPERM:\n"
    "        raise PermissionError\n"
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
    # To signal 0, or with arguments that do nothing: all would be taken, or fail otherwise, if unsealed.
    "queued signals": "call(129, 138, os.getppid(), 0, (ctypes.c_int * 32)(0, 0, -1))",
    "queued signals to threads": "call(297, 240, *[os.getppid()] * 2, 0, (ctypes.c_int * 32)(0, 0, -1))",
    "signals by descriptor": "call(424, 424, -1, 0, None, 0)",
    "signals by owner": "fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())",
    "signals by another number": "fcntl.fcntl(0, 10, signal.SIGKILL)",
    "killing itself": "call(234, 131, os.getpid(), os.getpid(), signal.SIGKILL)",
    "new namespaces": "call(272, 97, 0)",
    "other namespaces": "call(308, 268, -1, 0)",
    "attributes of links": "call(189, 6, b'/none', b'user.x', b'', 0, 0)",
    "attributes of files": "call(190, 7, -1, b'user.x', b'', 0, 0)",
    "keys": "call(250, 219, 0, -3, 0)",
    "tracing": "call(101, 117, -1, 0, 0, 0)",
    "reading others": "call(310, 270, os.getpid(), None, 0, None, 0, 0)",
    "writing others": "call(311, 271, os.getpid(), None, 0, None, 0, 0)",
    "others' descriptors": "call(438, 438, -1, 0, 0)",
    "others' processors": "call(203, 122, os.getppid(), 0, None)",
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


@pytest.mark.usefixtures("_sealable")
def test_a_sealed_process_may_abort(tmp_path):
    assert run(tmp_path, "confinement.seal()\nos.abort()").returncode == -6  # SIGABRT


@pytest.fixture(scope="module")
def _hideable():
    code = SEAL + "print(landlock.keep_to([]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.stdout.strip() != "True":
        pytest.skip("this kernel has no Landlock")


SECRETS = {
    "the worker's environment": "/proc/{parent}/environ",
    "accounts": "/etc/passwd",
    "a neighbour's file": "{folder}/there",
    "the folder of uploads": "{folder}",
}


@pytest.mark.usefixtures("_hideable")
@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)
def test_a_process_that_is_kept_from_files_can_t_open(tmp_path, secret):
    path = secret.format(parent=os.getpid(), folder=tmp_path)
    code = (
        "landlock.keep_to(landlock.interpreter_paths())\n"
        f"try:\n    os.open({path!r}, os.O_RDONLY)\nexcept PermissionError:\n    print('refused')"
    )
    assert run(tmp_path, code).stdout.strip() == "refused"
    assert os.access(path, os.R_OK)


@pytest.mark.usefixtures("_hideable")
def test_a_process_that_is_kept_from_files_loads_parsers_and_reads_what_is_open(tmp_path):
    code = (
        "from embedfleet.documents.parsers import parser_of\n"
        "file = open(sys.argv[1] + '/there')\n"
        "landlock.keep_to(landlock.interpreter_paths()); confinement.seal()\n"
        "[parser_of(kind) for kind in ('pdf', 'docx', 'text', 'markdown')]\n"
        "import pypdfium2, pypdf, chardet\n"
        "print(file.read())"
    )
    done = run(tmp_path, code)
    assert done.stdout.strip() == "kept", done.stderr
