"""The ONNX Runtime backend; pooling and normalising are ours, in float32."""

import os
from typing import Any

import numpy as np
import onnxruntime

from embedfleet.contracts.errors import ConfigurationError, EmbeddingError
from embedfleet.encoders.base import (
    OUT_OF_MEMORY,
    Ids,
    Lengths,
    Vectors,
    check_batch,
    normalised,
    process_memory,
)
from embedfleet.encoders.files import ModelFiles, Pooling
from embedfleet.encoders.manifest import damaged
from embedfleet.encoders.out_of_memory import is_out_of_memory
from embedfleet.runtime.settings import EngineSettings

CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"


class OnnxEncoder:
    """An `Encoder` that runs the model's ONNX graph.

    Args:
        files: a model with an ONNX graph whose first output is the token vectors.
        engine: device and threads.

    Raises:
        ConfigurationError: the graph can't be loaded, or FLEET_DEVICE=cuda and no GPU can be used.
    """

    def __init__(self, files: ModelFiles, engine: EngineSettings) -> None:
        if files.onnx is None:
            raise damaged(files.folder, "onnx/model.onnx is missing")
        self.max_tokens = files.max_tokens
        self.dim = files.dim
        self.model_key = files.model_key
        self.precision = "fp32"
        self._files = files
        self._session = _session(files, engine)
        self.device = "cuda" if self._session.get_providers()[0] == CUDA else "cpu"
        self._inputs = {graph_input.name for graph_input in self._session.get_inputs()}
        self._output = self._session.get_outputs()[0].name

    def encode(self, token_ids: Ids, lengths: Lengths) -> Vectors:
        """Return float32[n, dim]; see `Encoder.encode`."""
        check_batch(token_ids, lengths, self._files)
        if not len(lengths):
            return np.zeros((0, self.dim), dtype=np.float32)
        mask = np.arange(token_ids.shape[1]) < lengths[:, None]
        feeds = {
            "input_ids": token_ids,
            "attention_mask": mask.astype(np.int64),
            "token_type_ids": np.zeros_like(token_ids),
        }
        return normalised(_pool(self._run(feeds), mask, self._files.pooling))

    def memory(self) -> int:
        """Return the resident bytes of the process."""
        return process_memory()

    def _run(self, feeds: dict[str, np.ndarray[Any, Any]]) -> Vectors:
        wanted = {name: value for name, value in feeds.items() if name in self._inputs}
        try:
            (tokens,) = self._session.run([self._output], wanted)
        except Exception as error:  # the runtime's exceptions share no other base
            code = OUT_OF_MEMORY if is_out_of_memory(error) else None
            raise EmbeddingError(f"ONNX Runtime failed on a batch: {error}", code=code) from error
        rows, width = feeds["input_ids"].shape
        if tokens.shape != (rows, width, self.dim):
            raise EmbeddingError(
                f"the graph's output {self._output} has shape {tokens.shape}, not {(rows, width, self.dim)}: "
                "it is not the export of this model"
            )
        return np.asarray(tokens, dtype=np.float32)


def _pool(tokens: Vectors, mask: np.ndarray[Any, np.dtype[np.bool_]], pooling: Pooling) -> Vectors:
    """Return float32[n, dim] of float32[n, width, dim]; padding has no part in it."""
    if pooling == "cls":
        return tokens[:, 0]
    weights = mask.astype(np.float32)
    # A product of matrices a row: no second copy of the token vectors is made.
    sums = np.matmul(weights[:, None, :], tokens)[:, 0]
    return np.asarray(sums / weights.sum(axis=1, keepdims=True), dtype=np.float32)


def _session(files: ModelFiles, engine: EngineSettings) -> onnxruntime.InferenceSession:
    providers = _providers(engine)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = engine.threads or len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    # A pattern is a block a shape that is never given back: after batches of 4096 tokens in nine widths
    # the process held 483 MB with patterns and 349 MB without, at the same speed. Without the arena too,
    # encoding got about 5 % slower and glibc held 226 to 452 MB.
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(files.onnx), sess_options=options, providers=providers)
    except Exception as error:  # the runtime's exceptions share no other base
        raise damaged(files.folder, f"ONNX Runtime can't load its graph ({error})") from error
    if engine.device == "cuda" and session.get_providers()[0] != CUDA:
        # Without a driver the runtime falls back to the CPU with no more than a warning.
        raise ConfigurationError(
            "FLEET_DEVICE=cuda, but ONNX Runtime could not start its CUDA provider (driver, CUDA and cuDNN "
            "libraries missing or too old, or no GPU visible); fix that, or set FLEET_DEVICE=cpu",
            code="no_gpu",
        )
    return session


def _providers(engine: EngineSettings) -> list[str]:
    if engine.device == "cpu":
        return [CPU]
    if CUDA in onnxruntime.get_available_providers():
        return [CUDA, CPU]
    if engine.device == "auto":
        return [CPU]
    raise ConfigurationError(
        "FLEET_DEVICE=cuda, but this onnxruntime has no CUDA provider; install onnxruntime-gpu in place of "
        "onnxruntime (never both), or set FLEET_DEVICE=cpu",
        code="no_gpu",
    )
