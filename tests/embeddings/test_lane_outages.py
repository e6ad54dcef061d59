"""A device that fails, or never comes back: nobody's document fails for it, and the worker starts afresh."""

import math
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from lanes import BAD, NOT_A_NUMBER, WAIT_SECONDS, Gated, Room, busy, lane_of, sizing_of
from prometheus_client import REGISTRY

from embedfleet.contracts.errors import DependencyDown, EmbeddingError
from embedfleet.embeddings import tasks
from embedfleet.embeddings.lane import Lane
from embedfleet.embeddings.outages import Outages
from embedfleet.embeddings.submissions import Submission
from embedfleet.encoders.base import OUT_OF_MEMORY


def error_of(submission: Submission) -> BaseException | None:
    return submission.future.exception(timeout=WAIT_SECONDS)


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("part", ["the driver", "the runtime", "the numbers"])
def test_a_device_that_serves_no_row_fails_no_document_and_is_taken_again_when_it_serves(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, room = [0.0], Room()
    encoder = Gated(room)
    encoder.open()
    lane = Lane(encoder, sizing_of(encoder, room=room, clock=lambda: now[0]), 0, lambda: now[0])
    with monkeypatch.context() as broken:
        if part == "the driver":
            broken.setattr(room, "free", raising(EmbeddingError("the GPU no longer answers")))
        elif part == "the runtime":
            broken.setattr(encoder, "encode", raising(RuntimeError("an illegal memory access")))
        else:
            broken.setattr(encoder, "encode", lambda ids, lengths: np.full((len(ids), 3), np.nan))
        now[0] = 1.0  # readings of memory are kept for a moment
        for document in range(20):
            error = error_of(lane.submit(f"document {document}", [[4], [5]]))
            assert isinstance(error, DependencyDown)
            assert "it serves no row" in str(error)
        with pytest.raises(DependencyDown, match="it serves no row"):
            lane.outages.check()
    now[0] = 2.0
    assert lane.submit("document", [[4]]).future.result(WAIT_SECONDS)[0, 0] == 4
    lane.outages.check()
    lane.close()


def test_a_row_that_breaks_the_encoder_fails_alone_while_the_device_serves_another() -> None:
    encoder = Gated()
    encoder.open()
    lane = lane_of(encoder)
    for row in (BAD, NOT_A_NUMBER):
        error = error_of(lane.submit(f"document of {row}", [[row]]))
        assert isinstance(error, EmbeddingError)
    assert lane.outages.failure == ""
    lane.close()


def test_a_device_that_is_only_full_has_not_failed() -> None:
    encoder = Gated()
    outages = Outages(encoder, sizing_of(encoder), lambda: 0.0)
    for error, serves_none in (
        (EmbeddingError("the device is full", code=OUT_OF_MEMORY), False),
        (EmbeddingError("an illegal memory access"), True),
    ):
        encoder.encode = raising(error)  # type: ignore[method-assign]
        assert outages.serves_none() is serves_none


def test_only_those_whose_rows_never_come_back_are_told_so() -> None:
    encoder, now = Gated(), [0.0]
    lane = Lane(encoder, sizing_of(encoder, clock=lambda: now[0]), 0, lambda: now[0])
    hanging = lane.submit("hangs", [[1]])
    assert encoder.started.acquire(timeout=WAIT_SECONDS)
    waiting = lane.submit("waits", [[2]])
    now[0] = 300.0
    assert lane.busy_seconds == 300.0
    assert REGISTRY.get_sample_value("fleet_lane_busy_ratio") == 1.0
    assert lane.holds_any([waiting, hanging], 300.0)
    assert not lane.holds_any([hanging], 301.0)
    assert not lane.holds_any([waiting], 300.0)
    lane.cancel(hanging)
    assert not lane.holds_any([hanging], 300.0)
    encoder.open()
    assert waiting.future.result(WAIT_SECONDS)[0, 0] == 2
    lane.close()


@pytest.mark.parametrize("when", ["after a batch", "at rest"])
def test_a_device_that_hangs_outside_of_a_batch_is_noticed(
    when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, now = Gated(), [0.0]
    sizing = sizing_of(encoder, clock=lambda: now[0])
    is_asked, answers = threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        is_asked.set()
        assert answers.wait(WAIT_SECONDS)

    monkeypatch.setattr(sizing, "passed" if when == "after a batch" else "rest", hang)
    monkeypatch.setattr("embedfleet.embeddings.lane.IDLE_SECONDS", 0.01 if when == "at rest" else 60)
    lane = Lane(encoder, sizing, 0, lambda: now[0])
    if when == "after a batch":
        busy(lane, encoder)
        encoder.open()
    assert is_asked.wait(WAIT_SECONDS)
    now[0] = 330.0
    assert lane.busy_seconds == 330.0
    answers.set()
    lane.close()


@pytest.mark.parametrize(
    ("has_died", "busy_seconds", "failure", "said"),
    [
        (False, 0.0, "", []),
        (False, tasks.HUNG_SECONDS - 1, "", []),
        (False, tasks.HUNG_SECONDS, "", ["the lane hangs: the device has not answered for 330 s"]),
        (True, math.inf, "", ["the lane has died: nothing is encoded any more"]),
        (False, math.inf, "", []),
        (False, 0.0, "CUDA error 700", ["the device serves no row: CUDA error 700"]),
    ],
    ids=["well", "slow", "hangs", "died", "closed", "fails"],
)
def test_what_is_wrong_with_a_lane_for_good(
    has_died: bool, busy_seconds: float, failure: str, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    outages = SimpleNamespace(failure=failure)
    lane = SimpleNamespace(has_died=has_died, busy_seconds=busy_seconds, outages=outages)
    monkeypatch.setattr(tasks, "_engine", SimpleNamespace(lane=lane), raising=False)
    assert tasks._problems() == said
