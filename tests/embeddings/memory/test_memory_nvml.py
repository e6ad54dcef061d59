"""A GPU's memory as NVML tells it: of which device, and how much of it is ours."""

import os
import sys
from types import SimpleNamespace

import pytest
from tests.embeddings.memory.drivers import INSTANCE, ONE, TWO, Card, Cuda, Nvml, NVMLError, install

from embedfleet.contracts.errors import ConfigurationError, EmbeddingError
from embedfleet.embeddings.memory.nvml import NvmlDevice

FREE = 20_000_000_000


@pytest.fixture
def card() -> Card:
    return Card(free=FREE)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch, card: Card) -> Nvml:
    nvml = Nvml(**{ONE: card})
    install(monkeypatch, Cuda(ONE), nvml)
    return nvml


def ours(held: int | None) -> SimpleNamespace:
    return SimpleNamespace(pid=os.getpid(), usedGpuMemory=held)


@pytest.mark.parametrize(("order", "free"), [((ONE, TWO), FREE), ((TWO, ONE), 9), ((TWO,), 9)])
def test_the_gpu_is_cuda_s_first_in_whatever_order_nvml_has_them(
    monkeypatch: pytest.MonkeyPatch, card: Card, order: tuple[str, ...], free: int
) -> None:
    install(monkeypatch, Cuda(*order), Nvml(**{ONE: card, TWO: Card(free=9)}))
    device = NvmlDevice()
    assert (device.free(), device.total()) == (free, 24_152_899_584)


@pytest.mark.parametrize("refuses", [True, False], ids=["container", "root"])
def test_under_mig_the_instance_is_read_and_not_the_whole_card(
    monkeypatch: pytest.MonkeyPatch, refuses: bool
) -> None:
    whole = Card(free=80_000_000_000, total=85_000_000_000, refuses=refuses)
    instance = Card(free=9_000_000_000, total=10_000_000_000)
    install(monkeypatch, Cuda(INSTANCE), Nvml(**{ONE: whole, INSTANCE: instance}))
    device = NvmlDevice()
    assert (device.free(), device.total(), device.reserved()) == (9_000_000_000, 10_000_000_000, 0)


def test_a_device_that_nvml_does_not_know_is_refused(monkeypatch: pytest.MonkeyPatch, card: Card) -> None:
    install(monkeypatch, Cuda(TWO), Nvml(**{ONE: card}))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(
        ConfigurationError, match=f"{TWO}: Not Found; MIG-.*CUDA_VISIBLE_DEVICES is '1'"
    ) as error:
        NvmlDevice()
    assert error.value.code == "no_gpu"


@pytest.mark.parametrize(
    ("cuda", "words"),
    [
        (Cuda(), "shows no GPU"),
        (Cuda(ONE, init=100), "shows no GPU"),
        (Cuda(ONE, failure=999), "CUDA error 999"),
    ],
)
def test_a_driver_without_a_device_is_refused(
    monkeypatch: pytest.MonkeyPatch, card: Card, cuda: Cuda, words: str
) -> None:
    install(monkeypatch, cuda, Nvml(**{ONE: card}))
    with pytest.raises(ConfigurationError, match=words) as error:
        NvmlDevice()
    assert error.value.code == "no_gpu"


def test_what_this_process_took_since_the_model_was_loaded_is_added_back(nvml: Nvml, card: Card) -> None:
    others, process = SimpleNamespace(pid=os.getpid() + 1, usedGpuMemory=8_000_000_000), ours(1_000_000_000)
    card.processes = [others, process]
    device = NvmlDevice(arena=lambda: 42)
    assert (device.tells, device.reserved()) == (True, 0)
    process.usedGpuMemory = 3_000_000_000
    assert device.reserved() == 2_000_000_000


@pytest.mark.parametrize("listed", [[], [ours(None)], [ours(0)]], ids=["host's ids", "no number", "0 bytes"])
def test_where_the_driver_does_not_tell_what_is_ours_the_allocator_is_asked(
    nvml: Nvml, card: Card, listed: list[SimpleNamespace]
) -> None:
    card.processes = listed
    device = NvmlDevice(arena=lambda: 42)
    assert (device.tells, device.reserved()) == (False, 42)
    assert NvmlDevice().reserved() == 0


def test_a_driver_that_may_not_be_asked_has_nothing_to_tell(nvml: Nvml, card: Card) -> None:
    card.processes, card.hides = [ours(1_000_000_000)], True
    device = NvmlDevice(arena=lambda: 42)
    assert (device.tells, device.reserved(), device.free()) == (False, 42, FREE)


def test_a_model_that_the_driver_tells_of_too_late_is_no_idle_memory(nvml: Nvml, card: Card) -> None:
    device = NvmlDevice(arena=lambda: 42)
    card.processes = [ours(1_000_000_000)]
    assert (device.tells, device.reserved()) == (False, 42)


def test_a_driver_that_tells_no_more_leaves_it_to_the_allocator(nvml: Nvml, card: Card) -> None:
    card.processes = [ours(1_000_000_000)]
    device = NvmlDevice(arena=lambda: 42)
    card.hides = True
    assert (device.tells, device.reserved()) == (True, 42)


def test_a_gpu_that_is_lost_is_an_error_of_ours(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    device = NvmlDevice()

    def lost(handle: str) -> None:
        raise NVMLError("GPU is lost")

    monkeypatch.setattr(nvml, "nvmlDeviceGetMemoryInfo", lost)
    with pytest.raises(EmbeddingError, match="no longer answers: GPU is lost"):
        device.free()


def test_without_nvml_or_its_wheel_the_refusal_says_which(
    nvml: Nvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.missing = True
    with pytest.raises(ConfigurationError, match=r"driver.*Shared Library Not Found"):
        NvmlDevice()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(ConfigurationError, match="nvidia-ml-py is not installed"):
        NvmlDevice()
