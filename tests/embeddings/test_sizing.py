import ctypes
import re
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from lanes import Gated, Room
from prometheus_client import REGISTRY
from pydantic import ValidationError
from tests.encoders.conftest import TINY
from tests.encoders.runtimes import BF16, PLAIN, made

from embedfleet.contracts.errors import ConfigurationError
from embedfleet.embeddings.memory import BUDGETS, MemoryBudget, MemoryModel, ThroughputTuner
from embedfleet.embeddings.memory.cpu import CpuDevice
from embedfleet.embeddings.sizing import (
    MOST_TOKENS,
    TASKS_BYTES,
    TRIED_TOKENS_PER_THREAD,
    Sizing,
    measured,
)
from embedfleet.encoders.backends.choice import Choice
from embedfleet.encoders.files import inspect
from embedfleet.runtime.settings import EngineSettings


class Counting(Gated):
    """An encoder that is always let."""

    provider = "stand-in"

    def encode(self, token_ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        self.shapes.append(token_ids.shape)  # type: ignore[arg-type]
        return np.ones((len(lengths), 3), np.float32)


def test_a_start_costs_four_small_batches_on_a_cpu() -> None:
    encoder = Counting()
    measured(encoder, EngineSettings())
    assert len(encoder.shapes) == 4
    assert sum(rows * length for rows, length in encoder.shapes) == 2546


@pytest.mark.parametrize("streams", [1, 2])
def test_a_setting_beyond_what_a_cpu_is_ever_given_makes_no_probe_larger(streams: int) -> None:
    encoder = Counting()
    encoder.streams = streams
    measured(encoder, EngineSettings(max_batch_tokens=200_000))
    assert sum(rows * length for rows, length in encoder.shapes) == 2546


@pytest.mark.parametrize("streams", [1, 2])
def test_a_setting_that_a_cpu_goes_beyond_in_nothing_is_said(
    caplog: pytest.LogCaptureFixture, streams: int
) -> None:
    encoder, most = Counting(), MOST_TOKENS["cpu"] * streams
    encoder.streams = streams
    measured(encoder, EngineSettings(max_batch_tokens=most))
    assert caplog.messages == []
    measured(encoder, EngineSettings(max_batch_tokens=most + 1))
    (said,) = caplog.messages
    assert said == f"FLEET_MAX_BATCH_TOKENS={most + 1} is more than a CPU's batches ever have: {most} in all"


def test_a_probe_that_main_memory_has_no_room_for_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Freeing(monkeypatch, rest=200_000_000)
    encoder.token = 170_000
    sizing = measured(encoder, EngineSettings(memory_limit=345_000_000))  # the last two need 174 MB each
    assert len(encoder.shapes) == 2
    assert sizing.max_rows(256) == 2


def test_full_rows_which_may_be_computed_in_another_way_are_not_measured() -> None:
    encoder = Counting()
    encoder.multiple = 16
    measured(encoder, EngineSettings(max_batch_tokens=16 * MOST_TOKENS["cpu"]))
    assert max(length for _, length in encoder.shapes) == encoder.max_tokens - 16


def test_what_runs_and_what_memory_there_is_is_shown() -> None:
    measured(Counting(), EngineSettings(memory_limit=1 << 40))
    labels = {"model_key": "test", "device": "cpu", "provider": "stand-in", "precision": "fp32"}
    assert REGISTRY.get_sample_value("fleet_model_info", labels) == 1
    kinds = ("total", "free", "used")
    total, free, used = (
        REGISTRY.get_sample_value("fleet_device_memory_bytes", {"kind": kind}) or 0 for kind in kinds
    )
    assert 0 < free < total
    assert used == pytest.approx(total - free, rel=0.2)


def test_a_memory_limit_below_what_the_worker_holds_refuses_to_start_and_says_the_setting() -> None:
    with pytest.raises(ConfigurationError, match="raise FLEET_MEMORY_LIMIT") as caught:
        measured(Counting(), EngineSettings(memory_limit=1_000_000))
    assert caught.value.code == "too_little_memory"


def test_memory_that_others_hold_may_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CpuDevice, "free", lambda _: 1_000_000)
    with pytest.raises(ConfigurationError, match="end what else uses the device") as caught:
        measured(Counting(), EngineSettings())
    assert caught.value.code == "out_of_memory"


@pytest.mark.parametrize("short", [0, 1_000_000])
def test_a_refusal_says_the_least_that_works_and_that_works(
    monkeypatch: pytest.MonkeyPatch, short: int
) -> None:
    encoder = Freeing(monkeypatch, rest=200_000_000)
    with pytest.raises(ConfigurationError, match="the least that works") as caught:
        measured(encoder, EngineSettings(memory_limit=150_000_000))
    least = int(re.findall(r"([\d,]+) MB is the least", str(caught.value))[0].replace(",", "")) * 1_000_000
    assert least > 200_000_000 + TASKS_BYTES["cpu"]
    settings = EngineSettings(memory_limit=least - short)
    if short:
        with pytest.raises(ConfigurationError, match="the least that works"):
            measured(encoder, settings)
    else:
        assert measured(encoder, settings).max_rows(256) >= 1


def test_under_a_limit_what_tasks_hold_is_no_room_for_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Freeing(monkeypatch, rest=200_000_000)
    sizing = measured(encoder, EngineSettings(memory_limit=350_000_000))
    assert sizing.max_rows(256) == 4
    encoder.rest += 142_000_000  # texts, ids, points
    encoder.give_back()
    sizing.passed(4, 256, 1024, 0.1)
    sizing.rest()
    assert sizing.max_rows(256) == 2


def test_a_worker_over_its_limit_by_itself_goes_on_row_by_row_and_waits_only_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = Freeing(monkeypatch, rest=200_000_000)
    sizing = measured(encoder, EngineSettings(memory_limit=350_000_000))
    encoder.rest += 200_000_000  # what the runtime keeps, and what tasks have left
    sizing.rest()
    assert sizing.max_rows(256) == 1
    assert sizing.has_room(256)
    encoder.rest -= 200_000_000
    sizing.rest()
    monkeypatch.setattr(CpuDevice, "free", lambda _: 0)
    sizing.rest()
    assert sizing.max_rows(256) == 0
    assert not sizing.has_room(256)


def test_an_idle_worker_has_given_its_memory_back(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Freeing(monkeypatch, rest=200_000_000)
    sizing = measured(encoder, EngineSettings())
    encoder.held += 90_000_000
    sizing.rest()
    assert encoder.held == 200_000_000


def test_an_error_while_memory_is_given_back_hides_nothing_of_the_batch_that_ran_out() -> None:
    def fail() -> None:
        raise RuntimeError("the driver is busy")

    budget = MemoryBudget(MemoryModel(0, 1, 0), Room(), lambda: 0.0, 4096)
    sizing = Sizing(budget, Counting(), give_back=fail)
    assert sizing.ran_out(8, 256) == 4


def spied(init: Callable[..., None], made: list[CpuDevice]) -> Callable[..., None]:
    def spy(device: CpuDevice, *arguments: object) -> None:
        init(device, *arguments)
        made.append(device)

    return spy


class Freeing(Counting):
    """An encoder that holds idle memory from its start, and frees a batch's memory when that is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rest: int) -> None:
        super().__init__()
        self.rest, self.held, self.peak, self.token = rest, rest + 60_000_000, 0, 10_000
        monkeypatch.setattr(CpuDevice, "_held", lambda _: (self.held, 0))
        monkeypatch.setattr(CpuDevice, "peak", lambda _: self.peak)

    def encode(self, token_ids: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        self.peak = max(self.peak, self.held + self.token * token_ids.size)
        return super().encode(token_ids, lengths)

    def memory(self) -> int:
        return self.held

    def give_back(self) -> None:
        self.held = self.peak = self.rest


@pytest.mark.parametrize(
    ("limit", "rows"),
    [
        (500_000_000, (4, 4)),
        (350_000_000, (2, 2)),
    ],  # the tuner's first choice; 0.85 of 150 MB at 0.17 MB a token
)
def test_the_memory_limit_bounds_a_batch_though_its_memory_is_freed_when_it_is_done(
    monkeypatch: pytest.MonkeyPatch, limit: int, rows: tuple[int, int]
) -> None:
    encoder = Freeing(monkeypatch, rest=200_000_000)
    encoder.token = 170_000
    sizing = measured(encoder, EngineSettings(memory_limit=limit))
    assert rows[0] <= sizing.max_rows(256) <= rows[1]


def test_idle_memory_is_given_back_before_what_is_held_counts_as_never_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoder = Freeing(monkeypatch, rest=200_000_000)
    made: list[CpuDevice] = []
    monkeypatch.setattr(CpuDevice, "__init__", spied(CpuDevice.__init__, made))
    measured(encoder, EngineSettings())
    encoder.held += 5_000_000
    assert [device.reserved() for device in made] == [5_000_000]


IDLE = """
import sys
from embedfleet.embeddings.memory.cpu import CpuDevice
from embedfleet.embeddings.sizing import measured
from embedfleet.encoders.base import load
from embedfleet.runtime.settings import EngineSettings, ModelSettings
engine = EngineSettings(device="cpu", precision=sys.argv[2])
sizing = measured(load(ModelSettings(model_path=sys.argv[1]), engine), engine)
held = CpuDevice().resident
sizing.rest()
before = held()
texts = [bytes([n % 256]) * 4000 for n in range(20_000)]
last = texts.pop()  # it lies above the others, which therefore stay with the process
texts.clear()
kept = held() - before
sizing.rest()
print(kept, held() - before, len(last))
"""


@pytest.mark.parametrize("choice", [PLAIN, BF16], ids=str)
def test_a_real_encoder_s_idle_worker_is_as_small_as_before_its_tasks(choice: Choice) -> None:
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("this C library is not glibc: it has no malloc_trim")
    made(inspect(TINY, "test/tiny"), choice)  # skips where there is no OpenVINO
    # A process of its own: what earlier tests left would be given back, too.
    command = [sys.executable, "-B", "-c", IDLE, str(TINY), choice.precision]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    kept, idle, _ = map(int, ended.stdout.split())
    assert kept > 60_000_000
    assert idle < 20_000_000


@pytest.mark.parametrize(
    ("asked", "threads", "most"),
    [(0, 1, 1024), (0, 2, 2048), (0, 3, 2048), (0, 64, max(BUDGETS)), (2048, 1, 2048), (512, 64, 512)],
)
def test_the_tuner_tries_no_more_tokens_than_its_threads_can_use_or_the_setting_says(
    asked: int, threads: int, most: int
) -> None:
    sizing = measured(Counting(), EngineSettings(max_batch_tokens=asked, threads=threads))
    for _ in range(3000):  # each budget twice as fast as the one before
        rows = sizing.max_rows(1)
        sizing.passed(rows, 1, rows, 1 / rows)
    assert sizing.max_rows(1) == most


@pytest.mark.parametrize(
    ("asked", "threads", "streams", "first"),
    [(0, 2, 1, 1024), (0, 2, 2, 1024), (0, 1, 2, 512), (512, 2, 1, 512), (512, 2, 2, 256), (1, 2, 2, 1)],
)
def test_batches_side_by_side_share_the_tokens_that_are_tried(
    asked: int, threads: int, streams: int, first: int
) -> None:
    encoder = Counting()
    encoder.streams = streams
    assert measured(encoder, EngineSettings(threads=threads, max_batch_tokens=asked)).max_rows(1) == first


def test_there_must_be_room_for_a_row_on_each_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    least: list[int] = []
    for streams in (1, 2):
        encoder = Freeing(monkeypatch, rest=200_000_000)
        encoder.token, encoder.streams = 170_000, streams
        with pytest.raises(ConfigurationError, match=f"for each of {streams} streams") as caught:
            measured(encoder, EngineSettings(memory_limit=230_000_000))
        least += map(int, re.findall(r"(\d+) MB is the least", str(caught.value)))
    assert least[1] - least[0] == pytest.approx(256 * 0.17, abs=1)


def test_the_setting_says_what_is_tried_without_it_and_the_most_that_it_may_be() -> None:
    said = EngineSettings.model_fields["max_batch_tokens"].description or ""
    *tried, most = map(int, re.findall(r"\d{3,}", said))
    assert tried == [TRIED_TOKENS_PER_THREAD, MOST_TOKENS["cpu"], MOST_TOKENS["cuda"]]
    assert EngineSettings(max_batch_tokens=most).max_batch_tokens == most
    with pytest.raises(ValidationError, match="max_batch_tokens"):
        EngineSettings(max_batch_tokens=most + 1)
    assert most * 1536 < 1 << 31  # numbers in the widest layer of all-MiniLM-L6-v2


def test_a_tuner_sets_the_cap_before_the_first_batch() -> None:
    budget = MemoryBudget(MemoryModel(0, 1, 0), Room(), lambda: 0.0, cap_tokens=4096)
    assert Sizing(budget, Counting(), ThroughputTuner(start=2048)).max_rows(256) == 8


def test_a_batch_is_as_wide_as_the_encoder_pads_it() -> None:
    encoder = Counting()
    encoder.multiple = 32
    sizing = Sizing(MemoryBudget(MemoryModel(0, 1, 0), Room(), lambda: 0.0, cap_tokens=640), encoder)
    assert [sizing.max_rows(length) for length in (1, 32, 33, 250)] == [20, 20, 10, 2]


def test_memory_is_given_back_after_a_large_batch_and_after_a_failure() -> None:
    encoder = Counting()
    budget = MemoryBudget(MemoryModel(0, 1, 0), Room(1000), lambda: 0.0, cap_tokens=8192)
    sizing = Sizing(budget, encoder)
    sizing.passed(1, 100, 100, 0.1)
    assert (encoder.given_back, budget.kept) == (0, 100)
    sizing.passed(8, 100, 800, 0.1)
    assert (encoder.given_back, budget.kept) == (1, 0)
    assert sizing.ran_out(4, 100) == 2
    assert encoder.given_back == 2
