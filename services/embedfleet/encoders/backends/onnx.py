"""ONNX Runtime on the CPU: its own provider in fp32, OpenVINO's in bf16. Pooling is ours, in float32."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from embedfleet.contracts.errors import ConfigurationError, EmbeddingError
from embedfleet.encoders.backends import machine
from embedfleet.encoders.backends.choice import Choice
from embedfleet.encoders.backends.machine import give_back_loading
from embedfleet.encoders.base import Ids, Vectors
from embedfleet.encoders.encoder import Mask
from embedfleet.encoders.files import ModelFiles, Pooling
from embedfleet.encoders.manifest import damaged

CPU = "CPUExecutionProvider"
OPENVINO = "OpenVINOExecutionProvider"
# OpenVINO's threads wait for each other after each layer; two batches side by side don't, and neither waits
# for the other at its end. A stream has buffers of its own; so there are two, whatever threads they share.
STREAMS = 2


class OnnxRuntime:
    """Runs the model's ONNX graph on the CPU.

    Args:
        files: a model with an ONNX graph whose first output is the token vectors.
        choice: provider and precision.
        threads: of the runtime; 0: one a core.

    Raises:
        ConfigurationError: the graph can't be loaded, or the provider didn't take it.
    """

    def __init__(self, files: ModelFiles, choice: Choice, threads: int) -> None:
        # OpenVINO keeps memory for each width that it has seen, whatever its cache may hold: after 300 random
        # batches it had grown by 76 MB with every width, by 30 MB with multiples of 16.
        self.multiple = 16 if choice.provider == "openvino" else 1
        self._dim = files.dim
        self._pooling = files.pooling
        count = machine.threads(threads)
        self.streams = min(STREAMS, count) if choice.provider == "openvino" else 1
        provider = openvino(count, self.streams) if choice.provider == "openvino" else (CPU, {})
        self._session = open_session(graph_of(files), provider, files.folder, count)
        if provider[0] not in self._session.get_providers():
            raise ConfigurationError(
                f"ONNX Runtime could not start its provider {provider[0]}; install the extra again, or set "
                "FLEET_PRECISION=fp32",
                code="no_precision",
            )
        self._inputs = {graph_input.name for graph_input in self._session.get_inputs()}
        self._output = self._session.get_outputs()[0].name

    def run(self, token_ids: Ids, mask: Mask, options: Any = None) -> Vectors:
        """Return float32[n, dim]; see `Runtime.run`.

        Args:
            token_ids: int64[n, width].
            mask: bool[n, width], which of them are no padding.
            options: ONNX Runtime's, of this run.
        """
        feeds = {
            "input_ids": token_ids,
            "attention_mask": mask.astype(np.int64),
            "token_type_ids": np.zeros_like(token_ids),
        }
        wanted = {name: value for name, value in feeds.items() if name in self._inputs}
        (tokens,) = self._session.run([self._output], wanted, options)
        if tokens.shape != (*token_ids.shape, self._dim):
            raise EmbeddingError(
                f"the graph's output {self._output} has shape {tokens.shape}, not "
                f"{(*token_ids.shape, self._dim)}: it is not the export of this model"
            )
        return _pool(np.asarray(tokens, dtype=np.float32), mask, self._pooling)

    def give_back(self) -> None:
        """Shrink the arena, which only a run can do: the smallest there is."""
        one = np.zeros((1, 1), dtype=np.int64)
        self.run(one, one == 0, shrinking("cpu:0"))
        give_back_loading()  # OpenVINO's own memory is not in the arena


def graph_of(files: ModelFiles) -> Path:
    """Return the model's ONNX graph.

    Raises:
        ConfigurationError: there is none.
    """
    if files.onnx is None:
        raise damaged(files.folder, "onnx/model.onnx is missing")
    return files.onnx


def open_session(
    graph: Path | bytes, provider: tuple[str, dict[str, str]], folder: Path, threads: int
) -> onnxruntime.InferenceSession:
    """Load a graph into a session of one provider; the CPU's takes the nodes that it leaves.

    Args:
        graph: a file, or a serialised graph.
        provider: ONNX Runtime's name of it, and its options.
        folder: the model's, for the error.
        threads: of ONNX Runtime itself.

    Raises:
        ConfigurationError: the graph or a file that it names can't be loaded.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A pattern is a block a shape that is never given back: after batches of 4096 tokens in nine widths
    # the process held 483 MB with patterns and 349 MB without, at the same speed. Without the arena too,
    # encoding got about 5 % slower and glibc held 226 to 452 MB.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    source = graph if isinstance(graph, bytes) else str(graph)
    try:
        # Without the fallback: a provider that fails must not become the CPU behind our back.
        return onnxruntime.InferenceSession(
            source, sess_options=options, providers=[provider], enable_fallback=0
        )
    except Exception as error:  # the runtime's exceptions share no other base
        name = "its graph" if isinstance(graph, bytes) else graph.name
        raise damaged(folder, f"ONNX Runtime can't load {name} ({error})") from error


def openvino(threads: int, streams: int) -> tuple[str, dict[str, str]]:
    """Return the OpenVINO provider in bf16 with its options.

    Pinning is off: two processes that pin would share the same cores and leave the others idle. The cache of
    compiled shapes is small: with its default of 5,000 (and every width) a process held 1,011 MB after 1,600
    random batches and went on growing; 64 is no slower.
    """
    config = {
        "INFERENCE_PRECISION_HINT": "bf16",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": str(streams),
        "ENABLE_CPU_PINNING": "NO",
        "CPU_RUNTIME_CACHE_CAPACITY": "64",
    }
    device = {"device_type": "CPU", "num_streams": str(streams)}
    return OPENVINO, {**device, "load_config": json.dumps({"CPU": config})}


def shrinking(arenas: str) -> onnxruntime.RunOptions:
    """Return options by which a run ends with its arenas given back.

    Args:
        arenas: like `cpu:0` or `gpu:0`.
    """
    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", arenas)
    return options


def _pool(tokens: Vectors, mask: Mask, pooling: Pooling) -> Vectors:
    """Return float32[n, dim] of float32[n, width, dim]; padding has no part in it."""
    if pooling == "cls":
        return tokens[:, 0]
    weights = mask.astype(np.float32)
    # A product of matrices a row: no second copy of the token vectors is made.
    sums = np.matmul(weights[:, None, :], tokens)[:, 0]
    return np.asarray(sums / weights.sum(axis=1, keepdims=True), dtype=np.float32)
