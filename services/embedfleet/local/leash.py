"""Runs a command that can't outlive the process that started it.

``python leash.py PARENT_PID NICE COMMAND…`` asks the kernel to kill it when its parent dies, then
becomes the command (same process id). A launcher and not a `preexec_fn`: code between fork and exec
is unsafe in a process with threads. Standard library only, and it is run by its path: it starts in
about 20 ms because it imports no package.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
EXIT_NOT_FOUND = 127


def main(argv: list[str]) -> int:
    """Tie this process to its parent and become the command; returns only when that fails."""
    parent, niceness, command = int(argv[1]), int(argv[2]), argv[3:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the kernel knew
        return 1
    os.nice(niceness)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    try:
        os.execvp(command[0], command)  # noqa: S606 — the command comes from the supervisor, no shell
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
    return EXIT_NOT_FOUND


if __name__ == "__main__":
    sys.exit(main(sys.argv))
