"""What this machine has for an encoder: CPU features, the NVIDIA driver, which onnxruntime."""

import ctypes
import importlib
import mmap
import os
from importlib import metadata
from pathlib import Path
from typing import Any

from embedfleet.encoders.backends.choice import Machine
from embedfleet.encoders.registry import Backend

RUNTIME_WHEELS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")
DRIVER = "libcuda.so.1"
# cuInit's answers that a user can do something about; CUDA Driver API, enum CUresult.
_NO_DEVICE = 100
_DRIVER_MISMATCH = (803, 804)


def look(backend: Backend) -> Machine:
    """Return what a backend finds here; imports its runtime."""
    return Machine(
        no_cuda=_onnx_without_cuda() if backend == "onnx" else _torch_without_cuda(),
        has_openvino=backend == "onnx" and "OpenVINOExecutionProvider" in _onnx_providers(),
        cpu_flags=cpu_flags(),
    )


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Return the features of the first CPU; empty where Linux doesn't tell."""
    try:
        lines = cpuinfo.read_text("ascii", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split()[2:])


def threads(wanted: int) -> int:
    """Return a runtime's threads: as many as are wanted, or one a core that this process may use."""
    if wanted:
        return wanted
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def give_back_loading() -> None:
    """Have glibc give back what loading a model left behind; elsewhere nothing happens.

    After OpenVINO compiled a model of 90 MB, the process held 382 MB without, and 297 MB with it.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def let_go(file: Path, maps: Path = Path("/proc/self/maps")) -> None:
    """Drop this process's pages of a file that is mapped to be read; it may have been deleted.

    The kernel may still cache them; what is needed comes again from there or from the file. Elsewhere than on
    Linux nothing happens.

    Args:
        file: by its real name, links resolved.
        maps: where the mappings are listed; a test gives another.
    """
    try:
        lines = maps.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        span, rights, _, _, _, *path = line.split(maxsplit=5)
        # Only what can't have been written: pages that were changed here would be lost.
        if rights == "r--p" and path and path[0].removesuffix(" (deleted)") == str(file):
            first, end = (int(address, 16) for address in span.split("-"))
            ctypes.CDLL(None).madvise(
                ctypes.c_void_p(first), ctypes.c_size_t(end - first), mmap.MADV_DONTNEED
            )


def runtime_wheels() -> list[str]:
    """Return the installed distributions that bring the module `onnxruntime`: more than one is a mistake."""
    found = []
    for name in RUNTIME_WHEELS:
        try:
            found.append(metadata.distribution(name).metadata["Name"])
        except metadata.PackageNotFoundError:
            continue
    return found


def wheels_problem() -> str:
    """Return what is wrong with the installed onnxruntime wheels, and what to do; or an empty string."""
    wheels = runtime_wheels()
    if len(wheels) < 2:
        return ""
    return (
        f"{' and '.join(wheels)} are installed at once and overwrite each other's files: "
        f"`pip uninstall {' '.join(wheels)}`, then install one extra again (local, embeddings-cpu or "
        "embeddings-gpu)"
    )


def driver_problem(cuda: str = "") -> str:
    """Return why the NVIDIA driver gives no GPU, and what to do; or an empty string.

    Asks the driver itself (`cuInit`), which makes no context and takes no GPU memory.

    Args:
        cuda: the version of CUDA that a runtime needs, like `13.0`, of which the driver must know as much as
            the first number; empty where the runtime looks after that.
    """
    try:
        driver: Any = ctypes.CDLL(DRIVER)
    except OSError:
        return (
            f"the NVIDIA driver is missing ({DRIVER} can't be loaded): install it; a container needs the "
            "NVIDIA container runtime too"
        )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    hint = "" if visible is None else f" (CUDA_VISIBLE_DEVICES is {visible!r})"
    status = int(driver.cuInit(0))
    if status in _DRIVER_MISMATCH:
        return f"the NVIDIA driver and its libraries are of two versions (cuInit: {status}): reboot or update"
    if status not in (0, _NO_DEVICE):
        return f"the NVIDIA driver does not start (cuInit: {status}): see `nvidia-smi`"
    count = ctypes.c_int(0)
    if status == _NO_DEVICE or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return f"the NVIDIA driver shows no GPU{hint}: see `nvidia-smi`"
    known = ctypes.c_int(0)  # 12080 is 12.8
    if cuda and not driver.cuDriverGetVersion(ctypes.byref(known)) and known.value // 1000 < _major(cuda):
        version = f"{known.value // 1000}.{known.value % 1000 // 10}"
        return (
            f"the NVIDIA driver knows CUDA {version}, and this runtime is made for {cuda}: update the driver "
            "(CUDA 13 needs 580 or newer)"
        )
    return ""


def device_bytes() -> int:
    """Return the memory of the first visible GPU in bytes; 0 where the driver doesn't tell."""
    try:
        driver: Any = ctypes.CDLL(DRIVER)
    except OSError:
        return 0
    device, total = ctypes.c_int(0), ctypes.c_size_t(0)
    failed = (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(device), 0)
        or driver.cuDeviceTotalMem_v2(ctypes.byref(total), device)
    )
    return 0 if failed else total.value


def _onnx_providers() -> list[str]:
    return list(importlib.import_module("onnxruntime").get_available_providers())


def _major(version: str) -> int:
    return int(version.partition(".")[0])


def _onnx_without_cuda() -> str:
    if "CUDAExecutionProvider" in _onnx_providers():
        return driver_problem(str(importlib.import_module("onnxruntime").cuda_version or ""))
    return wheels_problem() or (
        "this onnxruntime has no CUDA provider: install the extra `embeddings-gpu` (onnxruntime-gpu) in "
        f"place of {', '.join(runtime_wheels()) or 'onnxruntime'}, never beside it"
    )


def _torch_without_cuda() -> str:
    # Through the backend's module: without torch it says which extra to install.
    torch: Any = importlib.import_module("embedfleet.encoders.backends.torch").torch
    if torch.version.cuda is None:
        return "this torch is a CPU build: install one with CUDA"
    problem = driver_problem()
    if problem or torch.cuda.is_available():
        return problem
    return f"torch for CUDA {torch.version.cuda} can't use the GPU: update the driver, or take an older torch"
