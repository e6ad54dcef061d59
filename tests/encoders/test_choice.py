"""What runs the model on which machine, and what is refused with which reason."""

import pytest

from embedfleet.contracts.errors import ConfigurationError
from embedfleet.encoders.backends.choice import AMX, AVX512, Machine, weigh
from embedfleet.runtime.settings import EngineSettings

NO_DRIVER = "the NVIDIA driver is missing"


def machine(*flags: str, gpu: bool = False, openvino: bool = True) -> Machine:
    return Machine("" if gpu else NO_DRIVER, openvino, frozenset(flags))


def possible(engine: EngineSettings, machine: Machine) -> list[str]:
    return [str(choice) for choice, obstacle in weigh(engine, machine).items() if not obstacle]


def engine(device: str = "auto", precision: str = "auto", backend: str = "onnx") -> EngineSettings:
    return EngineSettings.model_validate({"device": device, "precision": precision, "backend": backend})


@pytest.mark.parametrize(
    ("settings", "here", "expected"),
    [
        (engine(), machine(AMX), ["openvino bf16 on cpu", "cpu fp32 on cpu"]),
        (engine(), machine(AVX512), ["openvino bf16 on cpu", "cpu fp32 on cpu"]),
        (engine(), machine(AMX, openvino=False), ["cpu fp32 on cpu"]),
        (engine(), machine(), ["cpu fp32 on cpu"]),
        (
            engine(),
            machine(AMX, gpu=True, openvino=False),
            ["cuda fp16 on cuda", "cuda fp32 on cuda", "cpu fp32 on cpu"],
        ),
        (engine("cuda"), machine(AMX, gpu=True), ["cuda fp16 on cuda", "cuda fp32 on cuda"]),
        (engine("cpu"), machine(gpu=True), ["cpu fp32 on cpu"]),
        (engine(precision="bf16"), machine(AVX512), ["openvino bf16 on cpu"]),
        (engine("cpu", "fp32"), machine(AMX), ["cpu fp32 on cpu"]),
        (engine("cuda", "fp32"), machine(gpu=True), ["cuda fp32 on cuda"]),
        (
            engine(backend="torch"),
            machine(AMX, gpu=True),
            [
                "torch fp16 on cuda",
                "torch bf16 on cuda",
                "torch fp32 on cuda",
                "torch bf16 on cpu",
                "torch fp32 on cpu",
            ],
        ),
        (engine("cpu", backend="torch"), machine(AVX512), ["torch bf16 on cpu", "torch fp32 on cpu"]),
        (engine("cpu", backend="torch"), machine(), ["torch fp32 on cpu"]),
        (engine("cuda", "bf16", "torch"), machine(gpu=True), ["torch bf16 on cuda"]),
    ],
)
def test_the_best_of_what_is_allowed_and_here_comes_first(
    settings: EngineSettings, here: Machine, expected: list[str]
) -> None:
    assert possible(settings, here) == expected


@pytest.mark.parametrize(
    ("settings", "here", "code", "words"),
    [
        (engine("cuda"), machine(AMX), "no_gpu", [NO_DRIVER, "FLEET_DEVICE=cpu"]),
        (engine("cuda", backend="torch"), machine(AMX), "no_gpu", [NO_DRIVER]),
        (engine(precision="fp16"), machine(AMX), "no_precision", [NO_DRIVER, "FLEET_PRECISION=auto"]),
        (engine("cpu", "fp16"), machine(AMX, gpu=True), "no_precision", ["no fp16 on cpu", "bf16 on cpu"]),
        (engine("cuda", "bf16"), machine(gpu=True), "no_precision", ["FLEET_BACKEND", "no bf16 on cuda"]),
        (engine(precision="bf16"), machine(), "no_precision", ["no amx_bf16 or avx512_bf16"]),
        (engine("cpu", "bf16"), machine(AMX, openvino=False), "no_precision", ["onnxruntime-openvino"]),
    ],
)
def test_what_is_asked_for_and_not_here_is_refused_with_the_reason(
    settings: EngineSettings, here: Machine, code: str, words: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as error:
        weigh(settings, here)
    assert error.value.code == code
    assert all(word in error.value.detail for word in words)


def test_what_is_passed_over_is_told_with_its_reason() -> None:
    reasons = {str(choice): reason for choice, reason in weigh(engine(), machine()).items()}
    assert reasons["cuda fp16 on cuda"] == NO_DRIVER
    assert reasons["openvino bf16 on cpu"] == f"this CPU has no {AMX} or {AVX512}"


@pytest.mark.parametrize(("flags", "named"), [([AMX], AMX), ([AVX512], AVX512), ([AMX, AVX512], AMX)])
@pytest.mark.parametrize("backend", ["onnx", "torch"])
def test_bf16_is_explained_by_the_quickest_instructions_that_are_here(
    flags: list[str], named: str, backend: str
) -> None:
    taken = next(iter(weigh(engine("cpu", backend=backend), machine(*flags))))
    assert (taken.precision, taken.why) == ("bf16", f"the CPU has {named}")
