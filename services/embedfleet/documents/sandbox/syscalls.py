"""System calls that a sandbox child must not make, by processor.

Numbers are those of the kernel's tables (arch/x86/entry/syscalls/syscall_64.tbl and
include/uapi/asm-generic/unistd.h).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SyscallTable:
    """One processor's numbers.

    Attributes:
        audit_arch: AUDIT_ARCH_* of linux/audit.h.
        refused: network, new programs, other processes, changes to the file system: EPERM.
        absent: newer calls whose arguments a filter can't see: ENOSYS, the C library falls back.
        opens: (number, index of the flags) of calls that open files: reading only.
        clone: threads only.
        tgkill: signals to oneself only, as abort() sends, and not SIGKILL.
        prlimit: limits of oneself only.
        fcntl, ioctl: refused where they name a process that signals of a descriptor go to.
    """

    audit_arch: int
    refused: tuple[int, ...]
    absent: tuple[int, ...]
    opens: tuple[tuple[int, int], ...]
    clone: int
    tgkill: int
    prlimit: int
    fcntl: int
    ioctl: int


_X86_64 = {
    "socket": 41, "connect": 42, "sendto": 44, "sendmsg": 46, "bind": 49, "listen": 50, "socketpair": 53,
    "fork": 57, "vfork": 58, "execve": 59, "kill": 62, "truncate": 76, "rename": 82, "mkdir": 83,
    "rmdir": 84, "creat": 85, "link": 86, "unlink": 87, "symlink": 88, "chmod": 90, "fchmod": 91,
    "chown": 92, "fchown": 93, "lchown": 94, "ptrace": 101, "rt_sigqueueinfo": 129, "mknod": 133,
    "setpriority": 141, "mount": 165, "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "tkill": 200,
    "sched_setaffinity": 203, "add_key": 248, "request_key": 249, "keyctl": 250, "mkdirat": 258,
    "mknodat": 259, "fchownat": 260, "unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266,
    "fchmodat": 268, "unshare": 272, "rt_tgsigqueueinfo": 297, "perf_event_open": 298, "setns": 308,
    "process_vm_readv": 310, "process_vm_writev": 311, "renameat2": 316, "bpf": 321, "execveat": 322,
    "userfaultfd": 323, "pidfd_send_signal": 424, "io_uring_setup": 425, "pidfd_getfd": 438,
    "fchmodat2": 452,
}  # fmt: skip
_ARM64 = {
    "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "mknodat": 33, "mkdirat": 34, "unlinkat": 35,
    "symlinkat": 36, "linkat": 37, "renameat": 38, "mount": 40, "truncate": 45, "fchmod": 52,
    "fchmodat": 53, "fchownat": 54, "fchown": 55, "unshare": 97, "ptrace": 117, "sched_setaffinity": 122,
    "kill": 129, "tkill": 130, "rt_sigqueueinfo": 138, "setpriority": 140, "socket": 198, "socketpair": 199,
    "bind": 200, "listen": 201, "connect": 203, "sendto": 206, "sendmsg": 211, "add_key": 217,
    "request_key": 218, "keyctl": 219, "execve": 221, "rt_tgsigqueueinfo": 240, "perf_event_open": 241,
    "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271, "renameat2": 276, "bpf": 280,
    "execveat": 281, "userfaultfd": 282, "pidfd_send_signal": 424, "io_uring_setup": 425,
    "pidfd_getfd": 438, "fchmodat2": 452,
}  # fmt: skip

_ABSENT = (435, 437)  # clone3, openat2: the same on both

TABLES = {
    "x86_64": SyscallTable(
        audit_arch=0xC000003E,
        refused=tuple(_X86_64.values()),
        absent=_ABSENT,
        opens=((2, 1), (257, 2)),
        clone=56,
        tgkill=234,
        prlimit=302,
        fcntl=72,
        ioctl=16,
    ),
    "aarch64": SyscallTable(
        audit_arch=0xC00000B7,
        refused=tuple(_ARM64.values()),
        absent=_ABSENT,
        opens=((56, 2),),
        clone=220,
        tgkill=131,
        prlimit=261,
        fcntl=25,
        ioctl=29,
    ),
}
