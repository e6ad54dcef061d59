"""Which files a sandbox child may still open, by Landlock: the interpreter's and its libraries, to read.

Landlock (Linux 5.13, linux/landlock.h) needs no privilege and can't be loosened. The upload is not on
the list: the worker opens it and passes the descriptor. What stays readable is what every process of
the image may run: the folders of `sys.path` and of the system's shared libraries. Keep no secret there.
"""

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every processor
_PR_SET_NO_NEW_PRIVS = 38
_ASK_VERSION = 1
_PATH_BENEATH = 1
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_TCP, _SCOPES = 0b11, 0b11  # bind and connect; abstract sockets and signals

_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache")


def interpreter_paths() -> set[Path]:
    """Return what a running interpreter reads: modules and shared libraries that are loaded late."""
    own = [Path(prefix, "lib") for prefix in (sys.prefix, sys.base_prefix)]
    return {path for path in (*own, *map(Path, (*sys.path, *_LIBRARIES))) if path.is_absolute()}


def keep_to(readable: Iterable[Path]) -> bool:
    """Let this thread, and those it starts, open nothing but these; False: this kernel has no Landlock.

    Args:
        readable: files, and folders with all that is in them; what does not exist is left out.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = _call(libc, _CREATE_RULESET, None, 0, _ASK_VERSION) if sys.platform == "linux" else -1
    if version < 1:
        return False
    attributes = _attributes(version)
    rules = _call(libc, _CREATE_RULESET, attributes, len(attributes), 0)
    if rules < 0:
        return False
    try:
        for path in readable:
            with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                _allow(libc, rules, path)
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            return False
        return _call(libc, _RESTRICT_SELF, rules, 0) == 0
    finally:
        os.close(rules)


def _attributes(version: int) -> bytes:
    """Return struct landlock_ruleset_attr with all that a version of Landlock can refuse."""
    # Version 1 knows 13 rights on files; 2, 3 and 5 add one each: to refer, to truncate, to ioctl.
    file_rights = 13 + (version >= 2) + (version >= 3) + (version >= 5)
    fields = [(1 << file_rights) - 1]
    if version >= 4:
        fields.append(_TCP)
    if version >= 6:
        fields.append(_SCOPES)
    return struct.pack(f"={len(fields)}Q", *fields)


def _allow(libc: ctypes.CDLL, rules: int, path: Path) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rights = _READ_FILE | (_READ_DIR if path.is_dir() else 0)
        _call(libc, _ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)
    finally:
        os.close(descriptor)


def _call(libc: ctypes.CDLL, number: int, *arguments: int | bytes | None) -> int:
    words = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return int(libc.syscall(ctypes.c_long(number), *words))
