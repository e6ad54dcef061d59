"""What a benchmark ran on."""

import os
import platform
from functools import cache
from pathlib import Path

from embedfleet.encoders.backends.choice import AMX, AVX512
from embedfleet.encoders.backends.machine import cpu_flags


def threads() -> int:
    """Return the cores that this process may use: every contestant gets as many threads."""
    return len(os.sched_getaffinity(0))


def has_amx_bf16() -> bool:
    """Say whether the CPU multiplies matrices of bf16 in tiles (Linux's flag `amx_bf16`)."""
    return AMX in cpu_flags()


def describe() -> dict[str, str | int | bool]:
    """Return what a reader of a figure must know of the machine."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "system": platform.platform(),
        "processor": processor(),
        "threads": threads(),
        "amx_bf16": has_amx_bf16(),
        "avx512_bf16": AVX512 in cpu_flags(),
        "memory_gib": round(pages / 2**30),
        "python": platform.python_version(),
    }


def processor() -> str:
    """Return how many CPUs of which name the system has."""
    names = [line for line in _cpuinfo() if line.startswith("model name")]
    return f"{len(names)} x {_field('model name')}" if names else platform.processor()


def _field(name: str) -> str:
    found = (line.split(":", 1)[1].strip() for line in _cpuinfo() if line.split(":")[0].strip() == name)
    return next(found, "")


@cache
def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text("utf-8").splitlines() if path.exists() else []
