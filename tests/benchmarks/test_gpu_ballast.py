"""The neighbour of `make gpu-check`, on a driver that has memory in parts."""

import ctypes
from typing import Any

import pytest
from benchmarks.gpu.ballast import LEFT, PIECE, ballast
from benchmarks.gpu.checks import CheckFailed

GB = 1 << 30


class Driver:
    """NVIDIA's driver with one GPU, whose memory is in parts that no piece is larger than."""

    def __init__(self, *parts: int, failing: str = "", code: int = 999) -> None:
        self.parts, self.failing, self.code = list(parts), failing, code
        self.taken: dict[int, tuple[int, int]] = {}
        self.contexts = self.current = 0

    def __getattr__(self, name: str) -> Any:
        known = {
            "cuInit": lambda flags: 0,
            "cuDeviceGet": lambda device, number: 0,
            "cuDevicePrimaryCtxRetain": lambda context, device: self.count("contexts", 1),
            "cuDevicePrimaryCtxRelease_v2": lambda device: self.count("contexts", -1),
            "cuCtxPushCurrent_v2": lambda context: self.count("current", 1),
            "cuCtxPopCurrent_v2": lambda context: self.count("current", -1),
            "cuMemGetInfo_v2": self.info,
            "cuMemAlloc_v2": self.allocate,
            "cuMemFree_v2": self.release,
        }
        return (lambda *_: self.code) if name == self.failing else known[name]

    def count(self, name: str, by: int) -> int:
        setattr(self, name, getattr(self, name) + by)
        return 0

    def info(self, free: Any, total: Any) -> int:
        free._obj.value = sum(self.parts)
        return 0

    def allocate(self, address: Any, size: Any) -> int:
        for at, part in enumerate(self.parts):
            if part >= size.value:
                self.parts[at] -= size.value
                address._obj.value = len(self.taken) + 1
                self.taken[address._obj.value] = at, size.value
                return 0
        return 2

    def release(self, address: Any) -> int:
        at, size = self.taken.pop(address.value)
        self.parts[at] += size
        return 0


def use(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Driver:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    return driver


@pytest.mark.parametrize("parts", [(24 * GB,), (5 * GB, 3 * GB, GB), (80 * GB, PIECE, PIECE)])
def test_all_but_a_little_is_held_and_then_let_go(
    parts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = use(Driver(*parts), monkeypatch)
    with ballast() as left:
        assert LEFT <= left == sum(driver.parts) < LEFT + PIECE * (1 + len(parts))
        assert driver.current == driver.contexts == 1
    assert driver.parts == list(parts)
    assert (driver.taken, driver.current, driver.contexts) == ({}, 0, 0)


def test_it_is_let_go_when_the_batch_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = use(Driver(GB), monkeypatch)
    with pytest.raises(ValueError, match="a batch"), ballast():
        raise ValueError("a batch")
    assert driver.parts == [GB]


def test_a_full_gpu_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = use(Driver(LEFT), monkeypatch)
    with ballast() as left:
        assert left == LEFT
        assert driver.taken == {}


@pytest.mark.parametrize("name", ["cuInit", "cuDevicePrimaryCtxRetain", "cuMemGetInfo_v2", "cuMemAlloc_v2"])
def test_a_driver_that_fails_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = use(Driver(GB, failing=name), monkeypatch)
    with pytest.raises(CheckFailed, match=r"the memory can't be filled: .* CUDA error 999"), ballast():
        pytest.fail("nothing was filled")
    assert (driver.taken, driver.current, driver.contexts) == ({}, 0, 0)
