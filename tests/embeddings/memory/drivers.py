"""NVIDIA's two libraries with recorded answers, CUDA's driver and NVML: there is no GPU here."""

import ctypes
import sys
import uuid
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

# Of two GPUs, and of a MIG instance on the first.
ONE, TWO = "GPU-1c3a9a6e-0001-4000-8000-00000000000a", "GPU-77d0f2b1-0002-4000-8000-00000000000b"
INSTANCE = "MIG-90443af0-2fe6-57fb-86fe-54186d5a6581"


class NVMLError(Exception):
    """As nvidia-ml-py 13 raises on a machine without a driver: `NVML Shared Library Not Found`."""


class Cuda:
    """libcuda with its devices in CUDA's own order; under MIG the first is the instance."""

    def __init__(self, *order: str, init: int = 0, failure: int = 0) -> None:
        self.order, self.init, self.failure = order, init, failure

    def cuInit(self, flags: int) -> int:
        return self.init

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = len(self.order)
        return 0

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:
        device._obj.value = ordinal
        return 0

    def cuDeviceGetUuid_v2(self, octets: Any, device: Any) -> int:
        octets.raw = uuid.UUID(self.order[device.value].partition("-")[2]).bytes
        return self.failure


@dataclass
class Card:
    """A GPU or a MIG instance; under MIG a whole card refuses whoever may not see all instances."""

    free: int
    total: int = 24_152_899_584
    refuses: bool = False
    hides: bool = False  # its processes
    processes: list[SimpleNamespace] = field(default_factory=list)


class Nvml:
    """The calls of nvidia-ml-py 13 that are used; a handle is the UUID."""

    NVMLError = NVMLError

    def __init__(self, **cards: Card) -> None:
        self.cards, self.missing = cards, False

    def nvmlInit(self) -> None:
        if self.missing:
            raise NVMLError("NVML Shared Library Not Found")

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid not in self.cards:
            raise NVMLError("Not Found")
        return uuid

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Card:
        if self.cards[handle].refuses:
            raise NVMLError("Insufficient Permissions")
        return self.cards[handle]

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[SimpleNamespace]:
        if self.cards[handle].refuses or self.cards[handle].hides:
            raise NVMLError("Insufficient Permissions")
        return self.cards[handle].processes


def install(monkeypatch: pytest.MonkeyPatch, cuda: Cuda, nvml: Nvml) -> None:
    """Let both be found where the real ones would be."""
    load = ctypes.CDLL

    def library(name: str | None) -> Any:
        return cuda if name == "libcuda.so.1" else load(name)

    monkeypatch.setattr(ctypes, "CDLL", library)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)  # type: ignore[arg-type]
