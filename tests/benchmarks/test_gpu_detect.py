"""`make gpu-check` before anything is installed: no GPU, one that can't be used, one that can."""

import ctypes
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import detect
from benchmarks.gpu.detect import NO_GPU, UNUSABLE, NoGpu, Unusable, gpus

ROOT = Path(__file__).parents[2]


class Driver:
    """NVIDIA's driver with these answers."""

    def __init__(self, init: int = 0, count: int = 1, version: int = 13000, counting: int = 0) -> None:
        self.init, self.count, self.version, self.counting = init, count, version, counting

    def cuInit(self, flags: int) -> int:
        return self.init

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = self.count
        return self.counting

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = self.version
        return 0

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:
        return 0

    def cuDeviceGetName(self, name: Any, length: int, device: Any) -> int:
        name.value = b"Test L4"
        return 0


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Callable[[Driver], None]:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return lambda found: monkeypatch.setattr(ctypes, "CDLL", lambda name: found)


def test_without_a_driver_it_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    def none() -> list[str]:
        raise NoGpu("a test has none")

    monkeypatch.setattr(gpu, "gpus", none)
    assert gpu.main() == 0
    monkeypatch.setattr(detect, "gpus", none)
    assert detect.main() == NO_GPU
    said = capsys.readouterr().out.splitlines()
    assert said == ["gpu-check: no GPU on this machine: a test has none; nothing to check"] * 2


def test_a_gpu_that_can_not_be_used_is_a_failure(
    capsys: pytest.CaptureFixture[str], driver: Callable[[Driver], None]
) -> None:
    driver(Driver(init=803))
    assert gpu.main() == detect.main() == UNUSABLE
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    assert all(line.startswith("gpu-check FAILED: ") and line.endswith("reboot") for line in said)


def test_a_library_that_is_missing_beside_a_loaded_driver_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(NoGpu, match="not installed"):
        gpus("libno-such-driver.so.1", tmp_path / "version")
    (tmp_path / "version").touch()
    with pytest.raises(Unusable, match=r"libno-such-driver.*install the driver's libraries"):
        gpus("libno-such-driver.so.1", tmp_path / "version")


@pytest.mark.parametrize("found", [Driver(init=100), Driver(count=0), Driver(counting=100)])
def test_a_driver_that_sees_no_gpu_is_no_failure_however_old(
    driver: Callable[[Driver], None], found: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    found.version = 11040
    driver(found)
    with pytest.raises(NoGpu, match=r"sees no GPU$"):
        gpus()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    with pytest.raises(NoGpu, match="CUDA_VISIBLE_DEVICES is '-1'"):
        gpus()


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Driver(init=803), "error 803: .*reboot"),
        (Driver(init=999), "error 999: .*nvidia-smi"),
        (Driver(counting=3), "error 3: "),
        (Driver(version=12080), "for CUDA 12.8, .* need CUDA 13: install a driver of version 580 or newer"),
    ],
)
def test_a_driver_that_fails_or_is_too_old_says_what_to_do(
    driver: Callable[[Driver], None], found: Driver, words: str
) -> None:
    driver(found)
    with pytest.raises(Unusable, match=words):
        gpus()


@pytest.mark.parametrize("version", [13000, 13020, 14000])
def test_a_driver_that_is_new_enough_names_its_gpus(
    driver: Callable[[Driver], None], version: int, capsys: pytest.CaptureFixture[str]
) -> None:
    driver(Driver(count=2, version=version))
    assert gpus() == ["Test L4", "Test L4"]
    assert detect.main() == 0
    assert capsys.readouterr().out == "gpu-check: Test L4, Test L4\n"


@pytest.mark.parametrize("lock", ["gpu.lock", "gpu-torch.lock"])
def test_the_cuda_that_is_asked_for_is_that_of_the_locked_wheels(lock: str) -> None:
    text = (ROOT / "images/embeddings" / lock).read_text("utf-8")
    assert re.findall(r"^nvidia-cuda-runtime==(\d+)", text, re.MULTILINE) == [str(detect.CUDA_MAJOR)]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(("code", "is_fine"), [(NO_GPU, True), (UNUSABLE, False)])
def test_make_goes_no_further_and_fails_only_for_a_gpu_that_can_not_be_used(
    tmp_path: Path, code: int, is_fine: bool
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexit {code}\n", "utf-8")
    python.chmod(0o755)
    command = ["make", "gpu-check", f"PYTHON={python}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode == 0) is is_fine
    assert "installing" not in done.stdout


def test_the_question_needs_nothing_but_the_standard_library() -> None:
    code = "import sys, benchmarks.gpu.detect; print({'numpy', 'torch', 'embedfleet'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
