"""OpenVINO's two batches side by side, and its session for full rows; the weights that both map."""

import fcntl
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from embedfleet.contracts.errors import ConfigurationError
from embedfleet.encoders.backends import openvino, weights
from embedfleet.encoders.backends.openvino import OpenVinoRuntime
from embedfleet.encoders.base import Ids, Lengths, Vectors, pad
from embedfleet.encoders.encoder import ModelEncoder, make
from embedfleet.encoders.files import ModelFiles, inspect
from embedfleet.encoders.golden import cosines, read_golden
from embedfleet.encoders.tokenizer import TextTokenizer
from tests.encoders.mappings import resident
from tests.encoders.runtimes import BF16, PLAIN, has_openvino, made


def test_openvino_computes_in_bf16(tiny_files: ModelFiles) -> None:
    batch = pad([[2, 9, 30, 31, 3]], 0)
    reduced = made(tiny_files, BF16).encode(*batch)
    difference = np.abs(reduced - made(tiny_files, PLAIN).encode(*batch)).max()
    assert 1e-4 < difference < 0.05


def test_batches_side_by_side_give_the_vectors_that_each_gives_alone(tiny_files: ModelFiles) -> None:
    encoder = make(tiny_files, BF16, 2) if has_openvino() else pytest.skip("no OpenVINO provider")
    alike = [make(tiny_files, BF16, 1), make(tiny_files, PLAIN, 2)]
    assert [one.streams for one in [encoder, *alike]] == [2, 1, 1]
    batches = [pad([[2, 9 + row, 30, *range(31, 31 + row), 3] for row in range(n)], 0) for n in range(1, 9)]
    alone = [encoder.encode(*batch) for batch in batches]
    with ThreadPoolExecutor(encoder.streams) as pool:
        together = list(pool.map(lambda batch: encoder.encode(*batch), batches * 4))
    for one, other in zip(alone * 4, together, strict=True):
        assert (one * other).sum(axis=1).min() > 0.999
    assert (alone[-1][0] * alone[-1][-1]).sum() < 0.999


def test_openvino_keeps_few_shapes_and_pins_no_cores() -> None:
    name, options = openvino.provider(3, 2)
    assert (name, options["device_type"], options["num_streams"]) == (openvino.OPENVINO, "CPU", "2")
    assert json.loads(options["load_config"])["CPU"] == {
        "INFERENCE_PRECISION_HINT": "bf16",
        "INFERENCE_NUM_THREADS": 3,
        "NUM_STREAMS": "2",
        "ENABLE_CPU_PINNING": "NO",
        "CPU_RUNTIME_CACHE_CAPACITY": "64",
    }


def test_a_provider_that_is_not_in_its_session_is_refused(
    tiny_files: ModelFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = make(tiny_files, PLAIN, 1)._runtime._layers._session  # type: ignore[attr-defined]
    monkeypatch.setattr(openvino, "open_session", lambda *arguments: session)
    with pytest.raises(ConfigurationError, match="could not start its provider OpenVINO"):
        make(tiny_files, BF16, 1)


@pytest.fixture
def files(tiny_files: ModelFiles) -> ModelFiles:
    """The tiny model with rows as long as its positions allow: of its own 64 tokens no row is full."""
    return replace(tiny_files, max_tokens=128)


class Watched:
    """Layers that note the shapes of what they run."""

    def __init__(self, layers: Any) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self._layers = layers

    def run(self, token_ids: Ids, mask: Any) -> Vectors:
        self.shapes.append(token_ids.shape)
        vectors: Vectors = self._layers.run(token_ids, mask)
        return vectors


def watched(encoder: ModelEncoder) -> tuple[Watched, Watched]:
    """Return what notes the runs of an encoder's two sessions: any shape, and full rows."""
    runtime: Any = encoder._runtime
    runtime._any, runtime._full = Watched(runtime._any), Watched(runtime._full)
    return runtime._any, runtime._full


def rows_up_to(width: int, count: int) -> tuple[Ids, Lengths]:
    """Return a batch whose first row is that wide, and each other shorter than the one before."""
    return pad([[2, *(5 + (row + at) % 100 for at in range(width - 2 - row)), 3] for row in range(count)], 0)


@pytest.mark.parametrize(
    ("count", "full", "left"), [(1, 0, [1]), (7, 0, [4, 3]), (8, 1, []), (19, 2, [3]), (24, 3, [])]
)
def test_full_rows_are_computed_in_pieces_of_one_shape(
    files: ModelFiles, count: int, full: int, left: list[int]
) -> None:
    encoder = made(files, BF16)
    any_shape, full_rows = watched(encoder)
    batch = rows_up_to(encoder.max_tokens, count)
    vectors = encoder.encode(*batch)
    assert full_rows.shapes == [(8, encoder.max_tokens)] * full
    assert any_shape.shapes == [(rows, encoder.max_tokens) for rows in left]
    expected = make(files, PLAIN, 1).encode(*batch)
    assert (vectors * expected).sum(axis=1).min() > 0.999
    assert count == 1 or (expected[1:] * expected[:-1]).sum(axis=1).min() < 0.999


def test_both_sessions_serve_two_threads_while_memory_is_given_back(files: ModelFiles) -> None:
    encoder = made(files, BF16)
    batches = [rows_up_to(encoder.max_tokens, count) for count in (7, 8, 19)]
    batches.append(rows_up_to(encoder.max_tokens - 32, 5))
    alone = [encoder.encode(*batch) for batch in batches]
    with ThreadPoolExecutor(encoder.streams) as pool:
        together = [pool.submit(encoder.encode, *batch) for batch in batches * 6]
        while not all(one.done() for one in together):
            encoder.give_back()
    for expected, found in zip(alone * 6, together, strict=True):
        assert (expected * found.result()).sum(axis=1).min() > 0.9999


def test_shorter_rows_are_not_full(files: ModelFiles) -> None:
    encoder = made(files, BF16)
    any_shape, full_rows = watched(encoder)
    width = encoder.max_tokens - encoder.multiple
    encoder.encode(*rows_up_to(width, 10))
    assert (any_shape.shapes, full_rows.shapes) == ([(4, width), (4, width), (2, width)], [])


@pytest.mark.slow
def test_the_gate_holds_both_sessions_against_the_golden_vectors(real_files: ModelFiles) -> None:
    encoder = made(real_files, BF16)
    golden = read_golden(real_files.model_id)
    assert golden is not None
    any_shape, full_rows = watched(encoder)
    cosines(encoder, TextTokenizer(real_files), golden)
    assert full_rows.shapes == [(4, 256)] * 3
    assert all(rows * width <= 512 for rows, width in any_shape.shapes)
    assert sum(rows for rows, _ in any_shape.shapes) == 32


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        ([["batch_size", "sequence_length"]] * 3, ("batch_size", "sequence_length")),
        ([["n", "n"]], None),
        ([["n", 128]], None),
        ([[1, "w"]], None),
        ([["n", "w"], ["n", "other"]], None),
        ([["n", "w", "d"]], None),
        ([[None, None]], None),
    ],
)
def test_a_graph_that_doesn_t_name_rows_and_width_gets_no_fixed_shape(
    inputs: list[Any], names: tuple[str, str] | None
) -> None:
    session: Any = SimpleNamespace(get_inputs=lambda: [SimpleNamespace(shape=shape) for shape in inputs])
    assert openvino._dimensions(session) == names


@pytest.mark.parametrize(
    ("max_tokens", "rows"),
    [(64, 0), (113, 0), (114, 8), (128, 8), (256, 4), (384, 2), (512, 2), (513, 0), (8192, 0)],
)
def test_only_rows_of_a_certain_length_get_a_session(
    files: ModelFiles, monkeypatch: pytest.MonkeyPatch, max_tokens: int, rows: int
) -> None:
    asked: list[dict[str, int] | None] = []

    def open_session(*arguments: Any) -> Any:
        asked.append(arguments[-1])
        shape = SimpleNamespace(name="input_ids", shape=["n", "w"])
        return SimpleNamespace(
            get_inputs=lambda: [shape], get_outputs=lambda: [shape], get_providers=lambda: [openvino.OPENVINO]
        )

    monkeypatch.setattr(openvino, "open_session", open_session)
    OpenVinoRuntime(replace(files, max_tokens=max_tokens), 2)
    assert asked == ([None, {"n": rows, "w": max_tokens}] if rows else [None])


@pytest.mark.parametrize("is_linked", [False, True])
def test_the_weights_are_mapped_leave_no_file_and_go_when_memory_is_given_back(
    files: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_linked: bool
) -> None:
    folder = tmp_path / "real"
    folder.mkdir()
    (link := tmp_path / "link").symlink_to(folder)
    monkeypatch.setattr(tempfile, "tempdir", str(link if is_linked else folder))
    held = partial(resident, lambda line: f" {folder}/" in line and line.endswith("/weights (deleted)"))
    encoder = made(files, BF16)
    assert list(folder.iterdir()) == []
    batch = rows_up_to(encoder.max_tokens, 9)
    before = encoder.encode(*batch)
    assert len(held()) == 2
    assert all(held())
    encoder.give_back()
    assert held() == [0, 0]
    np.testing.assert_array_equal(encoder.encode(*batch), before)


def test_without_a_temporary_folder_one_session_serves(
    files: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with caplog.at_level(logging.INFO):
        encoder = made(files, BF16)
    assert f"No such file or directory: '{tmp_path}/missing" in caplog.text
    assert f"such a file needs room in {tmp_path}/missing" in caplog.text
    assert "rows of 128 tokens have no session of their own" in caplog.text
    assert_one_session(encoder, files)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from embedfleet.encoders.backends.weights import apart
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
graph = Path(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
with apart(graph) as found:
    print(found is not None)
"""


@pytest.mark.parametrize(("room", "is_written"), [(1, False), (8_000, False), (10_000_000, True)])
def test_weights_that_have_no_room_stay_in_their_graph(
    files: ModelFiles, tmp_path: Path, room: int, is_written: bool
) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(files.onnx), str(room)]
    variables = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    assert done.stdout == f"{is_written}\n"
    assert ("needs room in" in done.stderr) is not is_written
    assert list(tmp_path.iterdir()) == []


def test_a_graph_too_large_for_the_temporary_folder_stays_where_it_is(
    tiny_copy: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files = replace(inspect(tiny_copy, "test/tiny"), max_tokens=128)
    graph = tiny_copy / "onnx/model.onnx"
    monkeypatch.setattr(weights, "LARGEST_BYTES", graph.stat().st_size + 9)
    (graph.parent / "weights.bin").write_bytes(bytes(10))
    (graph.parent / "model.onnx_data").symlink_to("missing")
    with caplog.at_level(logging.WARNING):
        encoder = made(files, BF16)
    assert caplog.text == ""
    assert_one_session(encoder, files)
    (graph.parent / "weights.bin").write_bytes(bytes(9))
    assert made(files, BF16)._runtime._full is not None  # type: ignore[attr-defined]


def test_what_killed_processes_left_is_removed(
    files: ModelFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names = ("embedfleet-weights-left", "embedfleet-weights-new", "embedfleet-weights-held", "other")
    _, new, held, other = folders = [tmp_path / name for name in names]
    for folder in folders:
        folder.mkdir()
        (folder / "weights").write_bytes(b"w")
        os.utime(folder, (time.time() - (10 if folder is new else 100),) * 2)
    (link := tmp_path / "embedfleet-weights-link").symlink_to(other)
    lock = os.open(held, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with weights.apart(files.onnx or Path()) as found:
        assert found is not None
        with weights.apart(files.onnx or Path()):
            assert found[1].stat().st_size
    assert sorted(tmp_path.iterdir()) == sorted([new, held, link, other])
    assert (other / "weights").exists()
    os.close(lock)


def test_a_graph_that_takes_no_fixed_shape_is_served_without(
    files: ModelFiles, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = openvino.open_session

    def open_session(*arguments: Any) -> Any:
        if arguments[-1]:
            raise ConfigurationError("incompatible dimensions", code="model_damaged")
        return real(*arguments)

    monkeypatch.setattr(openvino, "open_session", open_session)
    with caplog.at_level(logging.WARNING):
        encoder = made(files, BF16)
    assert "this graph takes no fixed shape: incompatible dimensions" in caplog.text
    assert_one_session(encoder, files)


def assert_one_session(encoder: ModelEncoder, files: ModelFiles) -> None:
    assert encoder._runtime._full is None  # type: ignore[attr-defined]
    batch = rows_up_to(encoder.max_tokens, 9)
    expected = make(files, PLAIN, 1).encode(*batch)
    assert (encoder.encode(*batch) * expected).sum(axis=1).min() > 0.999
    encoder.give_back()
