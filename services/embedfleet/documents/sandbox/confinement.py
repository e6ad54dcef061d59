"""What the kernel holds a sandbox child to: memory, CPU, no files written, no network, no new processes.

Nothing here needs a privilege. The system call filter (seccomp) is for Linux on x86-64 and arm64;
elsewhere, or where the kernel refuses it, `seal` says so and only the resource limits hold.
"""

import ctypes
import errno
import os
import platform
import resource
import signal
import struct
import sys

from embedfleet.documents.sandbox.syscalls import TABLES, SyscallTable

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2

# Classic BPF over struct seccomp_data (linux/seccomp.h): number at 0, arch at 4, argument n at 16 + 8n.
_LOAD, _JUMP_EQUAL, _JUMP_SET, _RETURN = 0x20, 0x15, 0x45, 0x06
_NUMBER, _ARCH, _ARGUMENT_0 = 0, 4, 16
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_X32_BIT = 0x40000000
_CLONE_THREAD = 0x00010000
_WRITE_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

# linux/fcntl.h and asm/sockios.h: whoever owns a descriptor gets its signals, of any number.
_OWNING_FCNTL = (8, 10, 15)  # F_SETOWN, F_SETSIG, F_SETOWN_EX
_OWNING_IOCTL = (0x8901, 0x8902)  # FIOSETOWN, SIOCSPGRP

_OPEN_FILES = 128


def die_with(parent: int) -> None:
    """Ask the kernel to kill this process when the thread that started it ends; exit if it already has."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def limit_resources(memory_bytes: int) -> None:
    """Bound memory and open files; forbid core dumps and files that grow."""
    for kind, amount in (
        (resource.RLIMIT_AS, memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (amount, amount))


def arm_cpu(seconds: int) -> None:
    """Allow so many seconds of CPU from now; then the kernel sends SIGXCPU."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    spent = usage.ru_utime + usage.ru_stime
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(spent) + seconds + 1, hard))


def seal() -> bool:
    """Give up network, writing, signals to others and new processes for good; False: can't be done here."""
    table = TABLES.get(platform.machine()) if sys.platform == "linux" else None
    if table is None:
        return False
    program = b"".join(_program(table))
    code = ctypes.create_string_buffer(program)
    fprog = struct.pack("HL", len(program) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    # Other processes of this user can't read its memory either.
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, fprog) == 0)


def _program(table: SyscallTable) -> list[bytes]:
    refuse = _op(_RETURN, _ERRNO | errno.EPERM)
    absent = _op(_RETURN, _ERRNO | errno.ENOSYS)
    allow = _op(_RETURN, _ALLOW)
    program = [
        _op(_LOAD, _ARCH),
        _op(_JUMP_EQUAL, table.audit_arch, 1, 0),
        _op(_RETURN, _KILL_PROCESS),
        _op(_LOAD, _NUMBER),
        _op(_JUMP_SET, _X32_BIT, 0, 1),
        refuse,
    ]
    for number in table.refused:
        program += [_op(_JUMP_EQUAL, number, 0, 1), refuse]
    for number in table.absent:
        program += [_op(_JUMP_EQUAL, number, 0, 1), absent]
    for number, argument in table.opens:
        program += _if_argument(number, argument, _JUMP_SET, _WRITE_FLAGS, then=refuse, otherwise=allow)
    program += _if_argument(table.clone, 0, _JUMP_SET, _CLONE_THREAD, then=allow, otherwise=refuse)
    for number, commands in ((table.fcntl, _OWNING_FCNTL), (table.ioctl, _OWNING_IOCTL)):
        for command in commands:
            program += _if_argument(number, 1, _JUMP_EQUAL, command, then=refuse)
    program += _if_argument(table.tgkill, 2, _JUMP_EQUAL, signal.SIGKILL, then=refuse)
    program += _if_argument(table.tgkill, 0, _JUMP_EQUAL, os.getpid(), then=allow, otherwise=refuse)
    program += _if_argument(table.prlimit, 0, _JUMP_EQUAL, 0, then=allow, otherwise=refuse)
    return [*program, allow]


def _if_argument(
    number: int, argument: int, test: int, value: int, *, then: bytes, otherwise: bytes | None = None
) -> list[bytes]:
    """Return the block that judges one system call by the low word of an argument; None: goes on."""
    return [
        _op(_JUMP_EQUAL, number, 0, 4),
        _op(_LOAD, _ARGUMENT_0 + 8 * argument),
        _op(test, value, 0, 1),
        then,
        otherwise or _op(_LOAD, _NUMBER),
    ]


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)
