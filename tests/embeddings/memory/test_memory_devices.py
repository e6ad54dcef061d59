"""Main memory and torch against recorded answers at their seams: there is no GPU here."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from embedfleet.contracts.errors import ConfigurationError, EmbeddingError
from embedfleet.embeddings.memory import MemoryBudget, MemoryModel
from embedfleet.embeddings.memory.cpu import CpuDevice
from embedfleet.embeddings.memory.torch import TorchDevice


def test_torch_counts_the_cache_but_not_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(
        is_available=lambda: True,
        mem_get_info=lambda: (10_000_000_000, 24_152_899_584),
        memory_reserved=lambda: 5_000_000_000,
        memory_allocated=lambda: 1_340_000_000,
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))  # type: ignore[arg-type]
    device = TorchDevice()
    assert (device.total(), device.free(), device.reserved()) == (
        24_152_899_584,
        10_000_000_000,
        3_660_000_000,
    )

    def lost() -> None:
        raise RuntimeError("CUDA error: unspecified launch failure")

    cuda.mem_get_info = lost
    with pytest.raises(EmbeddingError, match="unspecified launch failure"):
        device.free()
    cuda.is_available = lambda: False
    with pytest.raises(ConfigurationError, match="no usable GPU"):
        TorchDevice()
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigurationError, match="not installed"):
        TorchDevice()


def put(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "ascii")
    return root


MACHINE = {
    "proc/meminfo": "MemTotal:       16000 kB\nMemFree:        1000 kB\nMemAvailable:    12000 kB\n"
    "HugePages_Total: 0\n",
    "proc/self/statm": "2000 500 100 1 0 300 0\n",
}


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count as the recorded machine does, whatever this one has."""
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096}.__getitem__)


def test_pages_are_as_large_as_the_kernel_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 65_536}.__getitem__)
    device = CpuDevice(limit=50_000_000, root=put(tmp_path, MACHINE))
    assert (device.resident(), device.reserved()) == (500 * 65_536, 0)
    put(tmp_path, {"proc/self/statm": "2000 700 100 1 0 300 0\n"})
    assert device.reserved() == 200 * 65_536


def test_main_memory_without_any_limit(tmp_path: Path) -> None:
    device = CpuDevice(root=put(tmp_path, MACHINE))
    assert (device.total(), device.free(), device.reserved()) == (16_384_000, 12_288_000, 0)
    put(tmp_path, {"proc/self/statm": "2000 700 100 1 0 300 0\n"})
    assert device.reserved() == 200 * 4096


def test_what_is_still_held_when_memory_was_given_back_is_not_idle(tmp_path: Path) -> None:
    device = CpuDevice(limit=3_000_000, root=put(tmp_path, MACHINE))
    put(tmp_path, {"proc/self/statm": "2000 700 100 1 0 300 0\n"})
    assert device.reserved() == 200 * 4096
    device.settle()
    assert device.reserved() == 0
    assert device.free() == 3_000_000 - 700 * 4096


def test_pages_of_files_are_no_room_for_a_batch(tmp_path: Path) -> None:
    device = CpuDevice(limit=3_600_000, root=put(tmp_path, MACHINE))
    put(tmp_path, {"proc/self/statm": "2000 640 200 1 0 300 0\n"})
    assert device.reserved() == 40 * 4096
    assert device.free() == 3_600_000 - 640 * 4096
    device.settle()
    assert device.grown() == 40 * 4096
    put(tmp_path, {"proc/self/statm": "2000 940 300 1 0 300 0\n"})
    assert device.reserved() == 3_600_000 - (300 + 440) * 4096 < 200 * 4096


def test_the_limit_that_is_set_bounds_this_process(tmp_path: Path) -> None:
    device = CpuDevice(limit=3_000_000, root=put(tmp_path, MACHINE))
    assert (device.total(), device.free()) == (3_000_000, 3_000_000 - 500 * 4096)
    put(tmp_path, {"proc/self/statm": "2000 9000 100 1 0 300 0\n"})
    assert device.free() == 0


def test_the_budget_stays_within_the_limit_that_is_set(tmp_path: Path) -> None:
    device = CpuDevice(limit=10_000_000, root=put(tmp_path, MACHINE))
    budget = MemoryBudget(MemoryModel(0, 20_000, 0), device, lambda: 0.0, 8192)
    left = 10_000_000 - 500 * 4096
    assert budget.budget_tokens(1) == int(0.85 * left / 20_000)
    assert budget.limit == 0.85 * left


@pytest.mark.parametrize("path", ["/", "/kubepods/pod1/ours"])
def test_a_container_of_cgroup_v2(tmp_path: Path, path: str) -> None:
    group = f"sys/fs/cgroup{path}/".replace("//", "/")
    files = {
        "proc/self/cgroup": f"0::{path}\n",
        f"{group}memory.max": "8000000\n",
        f"{group}memory.current": "5000000\n",
        f"{group}memory.stat": "anon 4000000\ninactive_file 300000\n"
        "active_file 200000\nslab_reclaimable 100000\n",
    }
    device = CpuDevice(root=put(tmp_path, MACHINE | files))
    assert (device.total(), device.free()) == (8_000_000, 3_600_000)


def test_the_tightest_group_above_ours_counts(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/slice/ours\n",
        "sys/fs/cgroup/slice/memory.max": "4000000\n",
        "sys/fs/cgroup/slice/memory.current": "1000000\n",
        "sys/fs/cgroup/slice/ours/memory.max": "max\n",
        "sys/fs/cgroup/slice/ours/memory.current": "900000\n",
    }
    device = CpuDevice(root=put(tmp_path, MACHINE | files))
    assert (device.total(), device.free()) == (4_000_000, 3_000_000)


@pytest.mark.parametrize("path", ["/docker/0123", "/"])
def test_a_container_of_cgroup_v1_sees_its_own_group_as_the_root(tmp_path: Path, path: str) -> None:
    files = {
        "proc/self/cgroup": f"9:name=systemd:/\n4:memory:{path}\n1:cpu:/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "8000000\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "7000000\n",
        "sys/fs/cgroup/memory/memory.stat": "cache 10\ntotal_inactive_file 300000\n"
        "total_active_file 200000\n",
    }
    device = CpuDevice(root=put(tmp_path, MACHINE | files))
    assert (device.total(), device.free()) == (8_000_000, 1_500_000)
    put(tmp_path, {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"})
    assert CpuDevice(root=tmp_path).total() == 16_384_000


def test_a_path_that_leads_out_of_the_tree_is_taken_for_the_root(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/../../init.scope\n", "sys/fs/cgroup/memory.max": "5000000\n"}
    assert CpuDevice(root=put(tmp_path, MACHINE | files)).total() == 5_000_000


def test_this_machine_answers() -> None:
    device = CpuDevice()
    assert 0 < device.free() <= device.total()


def test_the_peak_begins_anew_and_without_a_way_to_it_is_what_is_held(tmp_path: Path) -> None:
    device = CpuDevice(limit=3_000_000, root=put(tmp_path, MACHINE))
    device.restart_peak()
    put(tmp_path, {"proc/self/status": "Name:\tx\nVmHWM:\t    9000 kB\n"})  # of a start long ago
    assert device.peak() == 500 * 4096
    put(tmp_path, {"proc/self/clear_refs": ""})
    device.restart_peak()
    assert (tmp_path / "proc/self/clear_refs").read_text("ascii") == "5"
    assert device.peak() == 9000 * 1024


# In a process of its own: what a thread of another test gives back would be missing from the peak.
PEAKS = """
import mmap
from embedfleet.embeddings.memory.cpu import CpuDevice
device = CpuDevice()
device.restart_peak()
before = device.peak()
held = mmap.mmap(-1, 64_000_000)
held.write(b"x" * len(held))
held.close()
after = device.peak()
device.restart_peak()
print(device._has_peak, after - before, device.peak() - before)
"""


def test_this_machine_tells_the_peak_of_what_is_freed_again() -> None:
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True)
    has_peak, grown, left = done.stdout.split()
    if has_peak == "False":
        pytest.skip("this kernel doesn't let a process reset its peak")
    assert int(grown) > 60_000_000
    assert int(left) < 30_000_000
