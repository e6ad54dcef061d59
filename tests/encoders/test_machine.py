"""What the machine is asked: CPU features, the NVIDIA driver by its own words, the installed wheels."""

import ctypes
import mmap
import sys
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest

from embedfleet.encoders.backends import machine
from tests.encoders.mappings import resident


class Driver:
    """NVIDIA's driver with these answers."""

    def __init__(self, init: int = 0, count: int = 1, total: int = 16 << 30, version: int = 13_000) -> None:
        self.init, self.count, self.total, self.version = init, count, total, version

    def cuInit(self, flags: int) -> int:
        return self.init

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self.count
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = self.version
        return 0

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:
        return 0 if ordinal < self.count else 101

    def cuDeviceTotalMem_v2(self, total: Any, device: Any) -> int:
        total._obj.value = self.total
        return 0


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Callable[[Driver | None], None]:
    def install(found: Driver | None) -> None:
        def library(name: str) -> Driver:
            assert name == "libcuda.so.1"
            if found is None:
                raise OSError("libcuda.so.1: cannot open shared object file")
            return found

        monkeypatch.setattr(ctypes, "CDLL", library)

    return install


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "driver is missing"),
        (Driver(init=100), "shows no GPU"),
        (Driver(count=0), "shows no GPU"),
        (Driver(init=803), "two versions"),
        (Driver(init=999), "does not start (cuInit: 999)"),
    ],
)
def test_what_the_driver_lacks_is_told_apart(
    driver: Callable[[Driver | None], None], found: Driver | None, words: str
) -> None:
    driver(found)
    assert words in machine.driver_problem()


def test_a_driver_with_a_gpu_is_no_problem(driver: Callable[[Driver | None], None]) -> None:
    driver(Driver())
    assert machine.driver_problem() == ""
    assert machine.device_bytes() == 16 << 30


@pytest.mark.parametrize(
    ("version", "needed", "words"),
    [
        (12_080, "13.0", "knows CUDA 12.8, and this runtime is made for 13.0: update the driver"),
        (13_000, "13.1", ""),  # any driver of a major version serves all its minor ones
        (13_010, "12.4", ""),
        (12_080, "", ""),
    ],
)
def test_a_driver_that_is_too_old_is_told_before_a_session_fails_on_it(
    driver: Callable[[Driver | None], None], version: int, needed: str, words: str
) -> None:
    driver(Driver(version=version))
    problem = machine.driver_problem(needed)
    assert words in problem
    assert bool(problem) == bool(words)


def test_a_gpu_that_is_hidden_is_told(
    driver: Callable[[Driver | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(Driver(init=100))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CUDA_VISIBLE_DEVICES is ''" in machine.driver_problem()


@pytest.mark.parametrize("found", [None, Driver(init=100), Driver(count=0)])
def test_without_a_gpu_its_memory_is_unknown(
    driver: Callable[[Driver | None], None], found: Driver | None
) -> None:
    driver(found)
    assert machine.device_bytes() == 0


def test_the_cpu_s_features(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu avx2 amx_bf16\nbugs\t\t:\n", "ascii")
    assert machine.cpu_flags(tmp_path / "cpuinfo") == {"fpu", "avx2", "amx_bf16"}
    assert machine.cpu_flags(tmp_path / "none") == frozenset()
    (tmp_path / "arm").write_text("processor\t: 0\nFeatures\t: fp asimd\n", "ascii")
    assert machine.cpu_flags(tmp_path / "arm") == frozenset()


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    def distribution(name: str) -> Any:
        if name not in names:
            raise metadata.PackageNotFoundError(name)
        return SimpleNamespace(metadata={"Name": name})

    monkeypatch.setattr(metadata, "distribution", distribution)


def providers(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(machine, "_onnx_providers", lambda: list(names))


def test_two_wheels_of_one_module_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "onnxruntime-openvino")
    assert machine.wheels_problem() == ""
    installed(monkeypatch, "onnxruntime", "onnxruntime-openvino")
    assert "`pip uninstall onnxruntime onnxruntime-openvino`" in machine.wheels_problem()


def test_a_wheel_without_cuda_is_told_before_the_driver(
    driver: Callable[[Driver | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver(None)
    providers(monkeypatch, "CPUExecutionProvider")
    installed(monkeypatch, "onnxruntime")
    assert "`embeddings-gpu`" in machine.look("onnx").no_cuda
    installed(monkeypatch, "onnxruntime", "onnxruntime-gpu")
    assert "overwrite each other" in machine.look("onnx").no_cuda
    providers(monkeypatch, "CUDAExecutionProvider", "CPUExecutionProvider")
    assert "driver is missing" in machine.look("onnx").no_cuda
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0")
    driver(Driver(version=12_040))
    assert "knows CUDA 12.4" in machine.look("onnx").no_cuda
    driver(Driver())
    assert machine.look("onnx").no_cuda == ""


@pytest.mark.parametrize(
    ("cuda", "found", "usable", "words"),
    [
        (None, Driver(), True, "CPU build"),
        ("13.0", None, False, "driver is missing"),
        ("13.0", Driver(), False, "torch for CUDA 13.0 can't use the GPU"),
        ("13.0", Driver(), True, ""),
    ],
)
def test_what_torch_lacks_is_told_apart(
    driver: Callable[[Driver | None], None],
    monkeypatch: pytest.MonkeyPatch,
    cuda: str | None,
    found: Driver | None,
    usable: bool,
    words: str,
) -> None:
    driver(found)
    torch = SimpleNamespace(
        version=SimpleNamespace(cuda=cuda), cuda=SimpleNamespace(is_available=lambda: usable)
    )
    monkeypatch.setattr(machine.importlib, "import_module", lambda name: SimpleNamespace(torch=torch))
    problem = machine.look("torch").no_cuda
    assert words in problem
    assert bool(problem) == bool(words)


def test_openvino_is_found_by_its_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    providers(monkeypatch, "OpenVINOExecutionProvider", "CPUExecutionProvider")
    assert machine.look("onnx").has_openvino
    providers(monkeypatch, "CPUExecutionProvider")
    assert not machine.look("onnx").has_openvino


def test_loading_s_memory_is_given_back_where_the_c_library_can(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(malloc_trim=asked.append))
    machine.give_back_loading()
    assert asked == [0]
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    machine.give_back_loading()


def test_threads_are_those_that_are_wanted_else_one_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda process: {0, 3, 5})
    assert machine.threads(7) == 7
    assert machine.threads(0) == 3
    monkeypatch.delattr(machine.os, "sched_getaffinity")
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 8)
    assert machine.threads(0) == 8


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_pages_of_a_mapped_file_are_let_go_and_come_back(tmp_path: Path) -> None:
    file = tmp_path / "weights of a model"
    file.write_bytes(content := bytes(range(256)) * 4096)
    with file.open("rb") as opened, file.open("r+b") as written:
        read = mmap.mmap(opened.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        changed = mmap.mmap(written.fileno(), 0, flags=mmap.MAP_PRIVATE)
    file.unlink()
    held = partial(resident, lambda line: line.endswith(f"{file} (deleted)"))
    assert read[:] == content
    changed[:3] = b"new"
    page = mmap.PAGESIZE // 1024
    assert sorted(held()) == [page, 1024]
    machine.let_go(file)
    assert sorted(held()) == [0, page]
    assert (read[:], changed[:3]) == (content, b"new")
    read.close()
    changed.close()


def test_where_mappings_can_t_be_read_nothing_is_let_go(tmp_path: Path) -> None:
    machine.let_go(tmp_path, tmp_path / "missing")
