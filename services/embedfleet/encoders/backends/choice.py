"""Which runtime, device and precision an encoder gets. Pure: the machine is described, not asked.

The best that can be had is tried first; one that does not start, or whose vectors are wrong, gives way to the
next, as far as the settings leave a choice.
"""

from dataclasses import dataclass, replace
from typing import Literal

from embedfleet.contracts.errors import ConfigurationError
from embedfleet.encoders.registry import Backend
from embedfleet.runtime.settings import EngineSettings

Provider = Literal["cuda", "openvino", "cpu", "torch"]
Device = Literal["cuda", "cpu"]
Precision = Literal["fp32", "bf16", "fp16"]

# A CPU's instructions for bf16, as Linux names them, the quicker first: by tiles (Xeon since Sapphire Rapids)
# and by vectors (EPYC since Zen 4, where bf16 was measured too: docs/benchmarks.md; Xeon Cooper Lake).
AMX, AVX512 = "amx_bf16", "avx512_bf16"


@dataclass(frozen=True, slots=True)
class Machine:
    """What a backend finds on this machine.

    Attributes:
        no_cuda: why the backend can't use a GPU, and what to do; empty if it can.
        has_openvino: whether the installed onnxruntime has the OpenVINO provider.
        cpu_flags: the CPU's features, as Linux names them.
    """

    no_cuda: str
    has_openvino: bool
    cpu_flags: frozenset[str]


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to run the model, and why it was taken."""

    backend: Backend
    provider: Provider
    device: Device
    precision: Precision
    why: str

    def __str__(self) -> str:
        return f"{self.provider} {self.precision} on {self.device}"


PLAIN: dict[Backend, Choice] = {
    "onnx": Choice("onnx", "cpu", "cpu", "fp32", "it runs everywhere"),
    "torch": Choice("torch", "torch", "cpu", "fp32", "it runs everywhere"),
}
"""What reduced precision is held against where a model has no golden vectors."""

_GPU = "a GPU is usable"
# Best first. On a GPU fp16 before bf16: three more bits, and encoders' values stay far below its limit.
OFFERED: dict[Backend, tuple[Choice, ...]] = {
    "onnx": (
        Choice("onnx", "cuda", "cuda", "fp16", _GPU),
        Choice("onnx", "cuda", "cuda", "fp32", _GPU),
        Choice("onnx", "openvino", "cpu", "bf16", "the CPU multiplies bf16"),
        PLAIN["onnx"],
    ),
    "torch": (
        Choice("torch", "torch", "cuda", "fp16", _GPU),
        Choice("torch", "torch", "cuda", "bf16", _GPU),
        Choice("torch", "torch", "cuda", "fp32", _GPU),
        Choice("torch", "torch", "cpu", "bf16", "the CPU multiplies bf16"),
        PLAIN["torch"],
    ),
}


def weigh(engine: EngineSettings, machine: Machine) -> dict[Choice, str]:
    """Return what the settings allow, best first, with why the machine can't; for one at least that is empty.

    Raises:
        ConfigurationError: nothing is left; the code is `no_gpu` where FLEET_DEVICE=cuda can't be had, else
            `no_precision`.
    """
    wanted = [
        _explained(choice, machine)
        for choice in OFFERED[engine.backend]
        if engine.device in ("auto", choice.device) and engine.precision in ("auto", choice.precision)
    ]
    if not wanted:
        others = ", ".join(f"{one.precision} on {one.device}" for one in OFFERED[engine.backend])
        raise ConfigurationError(
            f"FLEET_BACKEND={engine.backend} has no {engine.precision} on "
            f"{'any device' if engine.device == 'auto' else engine.device}; it has {others}: change "
            "FLEET_PRECISION, FLEET_DEVICE or FLEET_BACKEND",
            code="no_precision",
        )
    obstacles = {choice: _obstacle(choice, machine) for choice in wanted}
    if "" in obstacles.values():
        return obstacles
    reasons = "; ".join(dict.fromkeys(obstacles.values()))
    if engine.device == "cuda":
        raise ConfigurationError(f"FLEET_DEVICE=cuda, but {reasons}; or set FLEET_DEVICE=cpu", code="no_gpu")
    raise ConfigurationError(
        f"FLEET_PRECISION={engine.precision}, but {reasons}; or set FLEET_PRECISION=auto", code="no_precision"
    )


def _explained(choice: Choice, machine: Machine) -> Choice:
    """Name the instructions that a CPU's bf16 is taken for."""
    found = next((flag for flag in (AMX, AVX512) if flag in machine.cpu_flags), "")
    is_bf16 = choice.device == "cpu" and choice.precision == "bf16"
    return replace(choice, why=f"the CPU has {found}") if is_bf16 and found else choice


def _obstacle(choice: Choice, machine: Machine) -> str:
    """Return why a choice can't be had, or an empty string."""
    if choice.device == "cuda":
        return machine.no_cuda
    if choice.precision != "bf16":
        return ""
    if choice.provider == "openvino" and not machine.has_openvino:
        return (
            "this onnxruntime has no OpenVINO provider, which computes bf16 on a CPU (onnxruntime-openvino, "
            "Linux x86-64, Python below 3.14)"
        )
    return "" if {AMX, AVX512} & machine.cpu_flags else f"this CPU has no {AMX} or {AVX512}"
