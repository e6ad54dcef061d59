"""An encoder serves after its gate; what fails gives way to the next, or refuses to start."""

import logging
from collections.abc import Callable

import numpy as np
import pytest

from embedfleet.contracts.errors import ConfigurationError, EmbeddingError
from embedfleet.encoders import golden, start
from embedfleet.encoders.backends import machine, session
from embedfleet.encoders.backends.choice import Choice, Machine
from embedfleet.encoders.encoder import ModelEncoder, make
from embedfleet.encoders.files import ModelFiles
from embedfleet.encoders.golden import gate
from embedfleet.encoders.registry import KnownModel
from embedfleet.runtime.settings import EngineSettings
from tests.encoders.runtimes import BF16, GPU_FP16, PLAIN

AMX = Machine("the NVIDIA driver is missing", True, frozenset({"amx_bf16"}))
GPU = Machine("", False, frozenset())


class Twisted:
    """The plain runtime, its vectors changed."""

    multiple = 1
    streams = 1

    def __init__(self, files: ModelFiles, change: Callable[[np.ndarray], np.ndarray]) -> None:
        self._plain = make(files, PLAIN, 1)._runtime
        self._change = change

    def run(self, token_ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return self._change(self._plain.run(token_ids, mask))

    def give_back(self) -> None:
        self._plain.give_back()


def same(vectors: np.ndarray) -> np.ndarray:
    return vectors


def turned(vectors: np.ndarray) -> np.ndarray:
    return np.roll(vectors, 1, axis=1)


def with_nan(vectors: np.ndarray) -> np.ndarray:
    vectors[-1, 0] = np.nan
    return vectors


def broken(vectors: np.ndarray) -> np.ndarray:
    raise RuntimeError("no such kernel")


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the machine, and what each reduced precision makes of the vectors."""

    def install(machine: Machine, change: Callable[[np.ndarray], np.ndarray] | ConfigurationError) -> None:
        def made(files: ModelFiles, choice: Choice, threads: int) -> ModelEncoder:
            if choice.provider == "cpu":
                return make(files, choice, 1)
            if isinstance(change, ConfigurationError):
                raise change
            return ModelEncoder(files, choice, Twisted(files, change))

        monkeypatch.setattr(start, "look", lambda backend: machine)
        monkeypatch.setattr(start, "make", made)

    return install


def test_one_line_says_what_was_taken_and_why(
    tiny_files: ModelFiles, runs: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    runs(AMX, same)
    with caplog.at_level(logging.INFO):
        encoder = start.build(tiny_files, EngineSettings())
    assert (encoder.provider, encoder.precision, encoder.device) == ("openvino", "bf16", "cpu")
    (line,) = caplog.messages
    assert line.startswith(
        "the encoder is openvino bf16 on cpu: the CPU has amx_bf16; cosine to fp32 on the CPU ≥ "
    )
    assert line.endswith("; not cuda fp16 on cuda: the NVIDIA driver is missing")


def test_wheels_that_overwrite_each_other_are_warned_of(
    tiny_files: ModelFiles,
    runs: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs(AMX, same)
    monkeypatch.setattr(machine, "runtime_wheels", lambda: ["onnxruntime", "onnxruntime-openvino"])
    start.build(tiny_files, EngineSettings())
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "`pip uninstall onnxruntime onnxruntime-openvino`" in warning


def test_what_loading_left_is_given_back_after_the_gate(
    tiny_files: ModelFiles, runs: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs(AMX, same)
    order: list[str] = []
    monkeypatch.setattr(start, "gate", lambda encoder, files: order.append("gate") or "passed")
    monkeypatch.setattr(start, "give_back_loading", lambda: order.append("given back"))
    start.build(tiny_files, EngineSettings())
    assert order == ["gate", "given back"]


@pytest.mark.parametrize("change", [turned, with_nan, broken])
def test_a_failed_gate_gives_way_to_the_next_with_a_warning(
    tiny_files: ModelFiles,
    runs: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
    change: Callable[[np.ndarray], np.ndarray],
) -> None:
    runs(AMX, change)
    with caplog.at_level(logging.INFO):
        encoder = start.build(tiny_files, EngineSettings())
    assert (encoder.provider, encoder.precision) == ("cpu", "fp32")
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "openvino bf16 on cpu is not used" in caplog.messages[0]


@pytest.mark.parametrize("change", [turned, with_nan, broken])
def test_a_failed_gate_of_what_was_asked_for_refuses_to_start(
    tiny_files: ModelFiles, runs: Callable[..., None], change: Callable[[np.ndarray], np.ndarray]
) -> None:
    runs(AMX, change)
    with pytest.raises(ConfigurationError) as error:
        start.build(tiny_files, EngineSettings(precision="bf16"))
    assert error.value.code == "gate_failed"


def test_a_gpu_that_does_not_start_is_the_cpu_only_where_the_settings_leave_it_open(
    tiny_files: ModelFiles, runs: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    runs(GPU, ConfigurationError("libcudnn.so.9 is missing", code="no_gpu"))
    with caplog.at_level(logging.WARNING):
        assert start.build(tiny_files, EngineSettings()).device == "cpu"
    assert "libcudnn.so.9 is missing" in caplog.messages[0]
    with pytest.raises(ConfigurationError) as error:
        start.build(tiny_files, EngineSettings(device="cuda"))
    assert error.value.code == "no_gpu"


FULL = "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 2: out of memory ; GPU=0 ; file=cuda_stream_handle.cc"


def full(*_: object, **__: object) -> np.ndarray:
    raise RuntimeError(FULL)


def full_when_loaded(files: ModelFiles, choice: Choice, threads: int) -> ModelEncoder:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(session.onnxruntime, "InferenceSession", full)
        session.open_session(b"graph", ("CUDAExecutionProvider", {}), files.folder, threads)
    raise AssertionError("it was loaded")


def full_for_its_buffers(files: ModelFiles, choice: Choice, threads: int) -> ModelEncoder:
    raise RuntimeError(FULL)


def full_at_its_gate(files: ModelFiles, choice: Choice, threads: int) -> ModelEncoder:
    return ModelEncoder(files, choice, Twisted(files, full))


@pytest.mark.parametrize("at", [full_when_loaded, full_for_its_buffers, full_at_its_gate])
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_full_gpu_is_told_as_that_wherever_it_shows_and_never_becomes_a_cpu(
    tiny_files: ModelFiles, monkeypatch: pytest.MonkeyPatch, at: Callable[..., ModelEncoder], device: str
) -> None:
    monkeypatch.setattr(start, "look", lambda backend: GPU)
    monkeypatch.setattr(
        start,
        "make",
        lambda files, choice, threads: (make if choice == PLAIN else at)(files, choice, threads),
    )
    with pytest.raises(ConfigurationError, match="CUDA_VISIBLE_DEVICES") as error:
        start.build(tiny_files, EngineSettings.model_validate({"device": device}))
    assert error.value.code == "out_of_memory"
    assert error.value.detail.startswith(
        f"the encoder cuda fp16 on cuda ran out of memory at its start ({FULL}): end what else uses the GPU"
    )


def test_bf16_without_room_on_a_cpu_gives_way_to_fp32_which_takes_less(
    tiny_files: ModelFiles, runs: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    runs(AMX, full)
    with caplog.at_level(logging.WARNING):
        assert start.build(tiny_files, EngineSettings()).precision == "fp32"
    assert "ran out of memory at its start" in caplog.messages[0]
    with pytest.raises(ConfigurationError, match="raise the limit") as error:
        start.build(tiny_files, EngineSettings(precision="bf16"))
    assert error.value.code == "out_of_memory"


def test_golden_vectors_are_those_of_the_revision(
    tiny_files: ModelFiles, tiny_golden: golden.Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden, "read_golden", lambda model_id: tiny_golden)
    encoder = make(tiny_files, PLAIN, 1)
    monkeypatch.setattr(golden, "KNOWN", {"test/tiny": KnownModel("another", {})})
    assert gate(encoder, tiny_files) == "no golden vectors of this model"
    monkeypatch.setattr(golden, "KNOWN", {"test/tiny": KnownModel(tiny_files.revision, {})})
    assert gate(encoder, tiny_files) == "cosine to the golden vectors ≥ 1.00000"
    for choice in (PLAIN, BF16, GPU_FP16):
        wrong = ModelEncoder(tiny_files, choice, Twisted(tiny_files, turned))
        with pytest.raises(ConfigurationError, match="cosine") as error:
            gate(wrong, tiny_files)
        assert error.value.code == "gate_failed"


def test_a_runtime_s_failure_is_told_apart_from_wrong_vectors(tiny_files: ModelFiles) -> None:
    with pytest.raises(EmbeddingError, match="no such kernel"):
        gate(ModelEncoder(tiny_files, BF16, Twisted(tiny_files, broken)), tiny_files)
